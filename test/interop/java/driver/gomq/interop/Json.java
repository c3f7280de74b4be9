package gomq.interop;

import java.util.LinkedHashMap;
import java.util.Map;

/** Writes maps, iterables, strings, numbers and booleans as one line of JSON. All that is not ASCII is escaped. */
final class Json {
    private Json() {
    }

    /** A map in the order of the arguments: key, value, key, value. */
    static Map<String, Object> of(Object... pairs) {
        Map<String, Object> m = new LinkedHashMap<>();
        for (int i = 0; i + 1 < pairs.length; i += 2) {
            m.put((String) pairs[i], pairs[i + 1]);
        }
        return m;
    }

    static String line(Object value) {
        StringBuilder out = new StringBuilder();
        write(out, value);
        return out.toString();
    }

    private static void write(StringBuilder out, Object v) {
        if (v == null || v instanceof Number || v instanceof Boolean) {
            out.append(v);
        } else if (v instanceof Map) {
            out.append('{');
            String comma = "";
            for (Map.Entry<?, ?> e : ((Map<?, ?>) v).entrySet()) {
                out.append(comma);
                write(out, String.valueOf(e.getKey()));
                out.append(':');
                write(out, e.getValue());
                comma = ",";
            }
            out.append('}');
        } else if (v instanceof Iterable) {
            out.append('[');
            String comma = "";
            for (Object e : (Iterable<?>) v) {
                out.append(comma);
                write(out, e);
                comma = ",";
            }
            out.append(']');
        } else {
            text(out, v.toString());
        }
    }

    private static void text(StringBuilder out, String s) {
        out.append('"');
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20 || c > 0x7e) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
