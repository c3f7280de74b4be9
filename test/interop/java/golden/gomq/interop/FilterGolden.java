package gomq.interop;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.parser.SelectorParser;

/**
 * What rocketmq-filter makes of many SQL92 expressions: first the sets of properties, one a line, "P name=value ...",
 * then the expressions, "E verdicts expression", with one letter for each set: T and F the two truths, N null, X an
 * exception; C alone when it does not compile. Everything that is no printable ASCII character, the blanks of a value
 * and the backslash are written as \\uXXXX. The same seed and count give the same output for ever.
 *
 * Arguments: seed, number of expressions, file.
 */
final class FilterGolden {
    private static final String[] NAMES = {"a", "b", "c", "price", "_x", "$y", "A", "missing", "between_", "inn"};
    private static final String[] VALUES = {"0", "1", "-1", "+1", "5", "05", "5.0", " 5", "5 ", "10", "010", "3.5", "1e3", "1E-3", ".5", "5.",
        "2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
        "NaN", "Infinity", "-Infinity", "0x1p3", "0x.8P1", "0x10", "1f", "2.5D", "10L", "1_000", "-0", "-0.0", "0.0", "1e400", "1e-400",
        "true", "TRUE", "tRuE", "false", "yes", "abc", "ABC", "it's", "x y", "''", "+", "-", ".", "e5", "\u65e5\u672c", "\u0663", "\uff15",
        "\u0661\u0662", "\ud83d\ude00", "\u00e9", "a", "TagA", "\u00a05", "\t7\n", "+-3", "--3", "1.5e", "1e+2", "1e5.5", "nan", "infinity", "+NaN", "+Infinity"};
    private static final String[] NUMBERS = {"0", "1", "5", "10", "3", "100", "5L", "5l", "2147483647", "2147483648", "9223372036854775807",
        "9223372036854775808", "99999999999999999999", "3.5", "5.0", "5.", ".5", "1e3", "1E-3", "5e0", "0.0", "0e5", "1e400", "1e-400", "4.9e-324", "1.7976931348623157E308",
        "0.1", "100L", "3000000000", "1.5e+2", "0.5", "2.5"};
    private static final String[] STRINGS = {"''", "'a'", "'abc'", "'ABC'", "'5'", "'5.0'", "'05'", "'10'", "'it''s'", "'true'", "'TRUE'", "'x y'",
        "'\u65e5\u672c'", "'\ud83d\ude00'", "'\u00e9'", "'TagA'", "''''", "'--'", "'/*'", "'a\nb'", "'-1'", "'NaN'", "'1e3'"};
    private static final String[] CONSTANTS = {"TRUE", "FALSE", "NULL", "true", "false", "null", "True"};
    private static final String[] ODD = {"#", "!=", "==", "&&", "\"x\"", "LIKE 'a%'", "* 3", "/ 2", "% 2", ";", "?", "\u65e5", "..", "0x1F", "007", "0L", "1.5f",
        "a.b", "@", "(", ")", "'", "/*", "--", "NOT", "IS", "IN", "BETWEEN", ",", "[", "CONTAINS 'a'", "NOT CONTAINS 'a'", "STARTSWITH 'a'", "garbage", "5 6"};
    private static final String[] FIXED = {"", " ", "a", "(a)", "((a))", "5", "'a'", "TRUE", "FALSE", "NULL", "-a", "-5", "+a", "NOT a", "NOT NOT a", "NOT 5", "NOT 'a'", "NOT NULL",
        "NOT TRUE", "a = 5", "a == 5", "a != 5", "a <> 5", "5 = a", "5 <> a", "a = b", "a <> b", "a = 'abc'", "'abc' = a", "a = TRUE", "TRUE = a", "a = FALSE", "FALSE = a",
        "a = NULL", "NULL = a", "a <> NULL", "a IS NULL", "a IS NOT NULL", "missing IS NULL", "missing IS NOT NULL", "5 IS NULL", "NULL IS NULL", "NULL IS NOT NULL",
        "TRUE IS NULL", "'' IS NULL", "a IS TRUE", "a IS", "a IS NOT", "a IS NOT 5", "a IS NULL IS NULL", "a IS NULL = TRUE", "a IS NULL = b IS NULL",
        "a > 5", "a >= 5", "a < 5", "a <= 5", "5 > a", "5 >= a", "5 < a", "5 <= a", "a > b", "a >= b", "a < b", "a <= b", "a > 'x'", "'x' > a", "a > TRUE", "a > NULL",
        "a > (b = 1)", "(b = 1) > a", "a > -5", "a > - 5", "a > --5", "a > +5", "a > -b", "-a > 5", "a = -5", "a = -2147483648", "a = -2147483649", "a = -9223372036854775807",
        "a = -9223372036854775808", "a > 5.0", "a >= 5.0", "a = 5.0", "5.0 = a", "a = 2147483648", "a < 9223372036854775807", "a = -0", "a > -0.5", "a = -5.0",
        "5 = 5", "5 = 5.0", "5.0 = 5", "5 = 2147483648", "2147483648 = 2147483648", "2147483648 > 5", "5 < 2147483648", "5 > 4.5", "4.5 < 5", "2147483648 > 1.5", "1.5 < 2147483648",
        "5 = '5'", "'5' = 5", "5 = '5.0'", "'5' = '5'", "'5' = '05'", "5 = 'x'", "5.0 = '5'", "'5' = 5.0", "TRUE = TRUE", "TRUE = FALSE", "TRUE <> FALSE", "TRUE = 'true'", "'true' = TRUE",
        "TRUE = 5", "5 = TRUE", "TRUE = NULL", "(a = 1) = TRUE", "TRUE = (a = 1)", "(a = 1) = (b = 1)", "(a = 1) = 5", "5 = (a = 1)", "(a = 1) = 'true'", "'true' = (a = 1)", "(a = 1) = b", "b = (a = 1)",
        "a BETWEEN 1 AND 10", "a NOT BETWEEN 1 AND 10", "a BETWEEN 10 AND 1", "a NOT BETWEEN 10 AND 1", "a BETWEEN 1 AND 1", "a BETWEEN -10 AND -20", "a BETWEEN 'a' AND 'b'", "a BETWEEN 'b' AND 'a'",
        "a BETWEEN 1 AND 'b'", "a BETWEEN TRUE AND FALSE", "a BETWEEN NULL AND 5", "a BETWEEN 1 AND NULL", "a BETWEEN b AND c", "a BETWEEN b AND 5", "a BETWEEN 5 AND b", "a NOT BETWEEN b AND c",
        "5 BETWEEN 1 AND 10", "5 BETWEEN a AND b", "5.5 BETWEEN 1 AND 10", "a BETWEEN 1.5 AND 2", "a BETWEEN 2.5 AND 2", "a BETWEEN 1 AND 2147483648", "a BETWEEN 2147483648 AND 1", "a BETWEEN 1 OR 5",
        "a BETWEEN 1", "a BETWEEN 1 AND", "a BETWEEN (1) AND (5)", "a BETWEEN 1 AND 5 AND b = 1", "a BETWEEN 1 AND 5 BETWEEN 1 AND 2", "a BETWEEN NOT 1 AND 5", "NOT a BETWEEN 1 AND 5",
        "a IN ('a')", "a IN ('a','b','abc')", "a NOT IN ('a')", "a IN ('a', 'b', 'c', 'd', 'e', 'abc', '5')", "a NOT IN ('a', 'b', 'c', 'd', 'e', 'abc', '5')", "a IN ()", "a IN ('a',)", "a IN 'a'", "a IN ('a'",
        "a IN (5)", "a IN (b)", "a IN (TRUE)", "a IN (NULL)", "5 IN ('5')", "'a' IN ('a')", "(a) IN ('a')", "(a = 1) IN ('a')", "a IN ('a') IN ('b')", "-a IN ('a')", "+a IN ('a')", "NOT a IN ('a')",
        "a IN ('') ", "a in ('x y')", "A iN ('a')", "a AND b", "a OR b", "NOT a AND b", "NOT a OR b", "a AND 5", "5 AND a", "'x' OR a", "a OR 'x'", "NULL AND TRUE", "NULL OR TRUE", "TRUE AND NULL",
        "TRUE OR NULL", "NULL AND FALSE", "FALSE AND NULL", "FALSE OR NULL", "NULL OR FALSE", "NULL AND NULL", "NULL OR NULL", "TRUE OR a > 'x'", "TRUE OR a > 5", "a > 5 OR TRUE", "FALSE AND a > 5", "a > 5 AND FALSE",
        "NULL OR a > 5", "NULL AND a > 5", "a = 1 OR b = 2 AND c = 3", "(a = 1 OR b = 2) AND c = 3", "a = 1 AND b = 2 OR c = 3", "NOT (a = 1 OR b = 2)", "NOT a = '1'", "NOT a = TRUE", "NOT a IS NULL",
        "NOT (a IS NULL)", "a = 1 = 1", "a > 1 > 2", "a < 5 < 3", "a = b = c", "a <> b <> c", "a > 1 = TRUE", "TRUE = a > 1", "a = b > 1", "1 < a = TRUE", "a -- comment\n= 5", "a /* c */ = 5", "/**/a = 5", "/* * ** */ a = 5",
        "/* unterminated a = 5", "a = 5 -- to the end", "a = 5 -- to the end\n", "-- first\ra = 5", "-- first\r\na = 5", "--x", "a = /*/ 5", "a = 5 /*", "a=5", "a=5AND b=5", "a=5ANDb=5", "a = 'x'AND b = 1", "a\t=\n5\r\n", "a\f=5",
        "a\u000b=5", "a\u00a0=5", "a = 5 garbage", "a = 5 #", "a = 5 garbage #", "a = 007", "a = 0L", "a = 5L5", "a = 1.5f", "a = 1.5.5", "a = 5..", "a = 0x1F", "a LIKE 'x%'", "a LIKE", "a CONTAINS 'b'", "a NOT CONTAINS 'b'",
        "a NOT", "a NOT b", "a NOT 5", "a NOT LIKE 'x'", "a NOT #", "a IS #", "a = 1 NOT", "a = 1 IS", "a = 1 NOT IN ('a')", "(a = 1", "a = 1)", "((a = 1)", "()", "(", ")", "a = ", "= 5", "a > ", "> 5", "a AND", "AND a", "OR", "a OR",
        "NOT", "a NOT BETWEEN", "a = 'x", "a = x'", "'", "a = ''", "a = ''''", "a = 'it''s'", "a = 'a''", "a ='a' 'b'", "_x = '1'", "$y = '1'", "a.b = 1", "a-b = 1", "a - b", "a + b", "a + 5 = 6", "a * 2 = 4", "a / 2", "a % 2 = 1", "#", "\u65e5 = 1",
        "a = '\u65e5\u672c'", "a <> '\u65e5\u672c'", "a IN ('\ud83d\ude00', '\u65e5\u672c')", "nOt a", "a iS nUlL", "a Is NoT nUlL", "a bEtWeEn 1 aNd 9", "a Or b", "tRuE", "TRUE_ = 1", "nullx IS NULL", "a = (5)", "(a) = (5)", "((a)) > ((5))",
        "-(a) > 1", "-(5) < a", "-(-5) = a", "+-+5 = a", "-NULL IS NULL", "-TRUE IS NULL", "-'x' IS NULL", "NOT -a", "- NOT a", "- NOT a IS NULL", "NOT + a", "+ NOT a", "a = 9223372036854775807", "a = 9223372036854775808", "a = -9223372036854775809",
        "a > 0.0", "a > 0.", "a > .0", "a > 0e1", "a > 1e-400", "a > 1e400", "a < 1e308", "a > 4.9e-324", "a > 4.8e-324", "a > 2e-324", "a = .5", "a = 5.", "a = .5e1", "a = 5.e1", "a = 5e", "a = 5e+", "a = 5e+1", "a = 5E-1", "a = .", "a = 1e5L",
        "5 > 3", "5 > 3 AND a IS NOT NULL", "-5 < -3", "-2147483648 < 0", "-2147483648 = -2147483648", "-2147483648 = 0", "--2147483648 > 0", "a = b OR c = 1", "missing = missing", "missing <> missing", "missing = other", "missing = 5", "5 = missing", "a = missing", "missing > 5",
        "missing > other", "missing IN ('a')", "missing NOT IN ('a')", "NOT missing", "missing AND a", "missing OR a = a", "a = a", "a <> a", "a > a", "a >= a", "a <= a"};

    private final Random random;

    private FilterGolden(long seed) {
        random = new Random(seed);
    }

    public static void main(String[] args) throws Exception {
        FilterGolden g = new FilterGolden(Long.parseLong(args[0]));
        try (PrintStream out = new PrintStream(args[2], StandardCharsets.US_ASCII)) {
            g.write(Integer.parseInt(args[1]), out);
        }
    }

    private void write(int count, PrintStream out) {
        List<Map<String, String>> sets = sets();
        for (Map<String, String> set : sets) {
            StringBuilder line = new StringBuilder("P");
            set.forEach((name, value) -> line.append(' ').append(name).append('=').append(plain(value, true)));
            out.println(line);
        }
        Set<String> all = new LinkedHashSet<>(List.of(FIXED));
        while (all.size() < count) {
            String e = tops();
            if (random.nextInt(12) == 0) {
                e = spoil(e);
            }
            if (e.equals(new String(e.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8))) {
                all.add(e); // not half of a surrogate pair
            }
        }
        for (String e : all) {
            out.println("E " + verdicts(e, sets) + " " + plain(e, false));
        }
    }

    /** Every value is the a of a set; what else a set holds is drawn. */
    private List<Map<String, String>> sets() {
        List<Map<String, String>> sets = new ArrayList<>();
        sets.add(Map.of());
        for (String v : VALUES) {
            Map<String, String> set = new LinkedHashMap<>();
            set.put("a", v);
            for (String name : NAMES) {
                if (!name.equals("a") && !name.equals("missing") && random.nextInt(3) > 0) {
                    set.put(name, random.nextInt(6) == 0 ? v : pick(VALUES));
                }
            }
            sets.add(set);
        }
        return sets;
    }

    private String verdicts(String text, List<Map<String, String>> sets) {
        Expression e;
        try {
            e = SelectorParser.parse(text);
        } catch (Throwable t) {
            return "C";
        }
        StringBuilder b = new StringBuilder();
        for (Map<String, String> set : sets) {
            b.append(verdict(e, set));
        }
        return b.toString();
    }

    private static char verdict(Expression e, Map<String, String> set) {
        try {
            Object v = e.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return set.get(name);
                }

                @Override
                public Map<String, Object> keyValues() {
                    return new LinkedHashMap<>(set);
                }
            });
            return v == null ? 'N' : v == Boolean.TRUE ? 'T' : 'F';
        } catch (Throwable t) {
            return 'X';
        }
    }

    private String pick(String[] from) {
        return from[random.nextInt(from.length)];
    }

    private String name() {
        return random.nextInt(3) > 0 ? pick(new String[] {"a", "b", "c"}) : pick(NAMES);
    }

    private String number() {
        return (random.nextInt(4) == 0 ? "-" : "") + (random.nextInt(5) == 0 ? String.valueOf(random.nextInt(2000) / 10.0) : pick(NUMBERS));
    }

    /** A whole expression. */
    private String tops() {
        return truth(random.nextInt(4));
    }

    private String truth(int depth) {
        if (depth > 0) {
            switch (random.nextInt(6)) {
                case 0:
                    return truth(depth - 1) + " AND " + truth(depth - 1);
                case 1:
                    return truth(depth - 1) + " OR " + truth(depth - 1);
                case 2:
                    return "NOT (" + truth(depth - 1) + ")";
                case 3:
                    return "(" + truth(depth - 1) + ")";
                case 4:
                    return "(" + truth(depth - 1) + ") " + pick(new String[] {"=", "<>"}) + " " + operand(depth - 1);
                default:
            }
        }
        switch (random.nextInt(14)) {
            case 0:
                return name() + pick(new String[] {" IS NULL", " IS NOT NULL"});
            case 1:
                return name() + pick(new String[] {" BETWEEN ", " NOT BETWEEN "}) + operand(0) + " AND " + operand(0);
            case 2:
                return name() + pick(new String[] {" BETWEEN ", " NOT BETWEEN "}) + number() + " AND " + number();
            case 3:
            case 4:
                return name() + pick(new String[] {" IN ", " NOT IN "}) + list();
            case 5:
                return pick(CONSTANTS);
            case 6:
                return name();
            case 7:
                return "NOT " + name();
            case 8:
            case 9:
                return name() + " " + pick(new String[] {"=", "<>"}) + " " + operand(depth);
            default:
                return operand(depth) + " " + pick(new String[] {"=", "<>", "<", "<=", ">", ">="}) + " " + operand(depth);
        }
    }

    private String operand(int depth) {
        switch (random.nextInt(10)) {
            case 0:
            case 1:
            case 2:
                return name();
            case 3:
            case 4:
            case 5:
                return number();
            case 6:
            case 7:
                return pick(STRINGS);
            case 8:
                return depth > 0 ? "(" + truth(depth - 1) + ")" : pick(CONSTANTS);
            default:
                return pick(new String[] {"-", "+", "- ", "NOT "}) + (random.nextBoolean() ? name() : number());
        }
    }

    private String list() {
        StringBuilder b = new StringBuilder("(");
        int n = 1 + random.nextInt(random.nextInt(4) == 0 ? 12 : 4);
        for (int i = 0; i < n; i++) {
            String value = random.nextInt(3) == 0 ? pick(STRINGS) : "'" + pick(VALUES).replace("'", "''") + "'";
            b.append(i == 0 ? "" : random.nextBoolean() ? "," : " , ").append(value);
        }
        return b.append(')').toString();
    }

    /** Something put in, taken out or cut off. */
    private String spoil(String e) {
        int at = random.nextInt(e.length() + 1);
        switch (random.nextInt(4)) {
            case 0:
                return e + " " + pick(ODD);
            case 1:
                return e.substring(0, at) + " " + pick(ODD) + " " + e.substring(at);
            case 2:
                return e.substring(0, at);
            default:
                return at == e.length() ? e : e.substring(0, at) + e.substring(at + 1);
        }
    }

    private static String plain(String s, boolean blanks) {
        StringBuilder b = new StringBuilder();
        for (char c : s.toCharArray()) {
            if (c > 0x7e || c < 0x20 || c == '\\' || blanks && c == ' ') {
                b.append(String.format("\\u%04x", (int) c));
            } else {
                b.append(c);
            }
        }
        return b.toString();
    }
}
