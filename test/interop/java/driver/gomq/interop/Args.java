package gomq.interop;

import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The arguments of one command: {@code key=value} words, the value percent-encoded, so that a line needs no quoting.
 * A value may be empty, which is different from a missing one.
 */
final class Args {
    private final Map<String, String> values = new LinkedHashMap<>();

    Args(String[] words, int from) {
        for (int i = from; i < words.length; i++) {
            if (words[i].isEmpty()) {
                continue;
            }
            int eq = words[i].indexOf('=');
            if (eq < 0) {
                throw new IllegalArgumentException("argument without '=': " + words[i]);
            }
            values.put(decode(words[i].substring(0, eq)), decode(words[i].substring(eq + 1)));
        }
    }

    private static String decode(String s) {
        return URLDecoder.decode(s, StandardCharsets.UTF_8);
    }

    boolean has(String key) {
        return values.containsKey(key);
    }

    /** The value, or an error that names the missing key. */
    String need(String key) {
        String v = values.get(key);
        if (v == null) {
            throw new IllegalArgumentException("missing argument " + key);
        }
        return v;
    }

    String get(String key, String otherwise) {
        return values.getOrDefault(key, otherwise);
    }

    int number(String key, int otherwise) {
        return has(key) ? Integer.parseInt(need(key)) : otherwise;
    }

    long big(String key, long otherwise) {
        return has(key) ? Long.parseLong(need(key)) : otherwise;
    }

    boolean flag(String key) {
        return Boolean.parseBoolean(get(key, "false"));
    }

    /** All arguments whose key starts with the prefix, without it. */
    Map<String, String> under(String prefix) {
        Map<String, String> found = new LinkedHashMap<>();
        values.forEach((k, v) -> {
            if (k.startsWith(prefix)) {
                found.put(k.substring(prefix.length()), v);
            }
        });
        return found;
    }
}
