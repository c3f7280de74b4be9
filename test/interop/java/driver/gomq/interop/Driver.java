package gomq.interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * Drives the official RocketMQ client for the interop tests. Usage: {@code Driver NAMESRV}.
 *
 * <p>It reads one command a line from standard input, {@code ID VERB key=value ...}, runs it on a thread of its own and
 * answers with one line of JSON on standard output: {@code {"id":ID,"ok":true,...}} or {@code {"id":ID,"ok":false,
 * "error":...,"code":...}}. What happens between commands, above all a message that a consumer received, is a line with
 * "event". The scenarios and what is expected of them are in the Go tests; here is only what the client did and saw.
 * When standard input ends, everything that was started is shut down and the process ends,
 * after ten seconds at the latest.
 */
public final class Driver {
    /** One command: what it returns is merged into the answer. */
    interface Verb {
        Map<String, Object> run(Args args) throws Exception;
    }

    private final PrintStream out;
    final String namesrv;
    final Map<String, Verb> verbs = new LinkedHashMap<>();
    final Administering admins = new Administering(this);
    /** What was started under a name and how to stop it. Guarded by itself. */
    private final Map<String, Runnable> stops = new LinkedHashMap<>();

    private Driver(PrintStream out, String namesrv) {
        this.out = out;
        this.namesrv = namesrv;
    }

    public static void main(String[] argv) throws Exception {
        PrintStream answers = new PrintStream(System.out, true, "UTF-8");
        System.setOut(System.err); // what libraries print must not mix with the answers
        Driver driver = new Driver(answers, argv[0]);
        new Producing(driver).register();
        new Transacting(driver).register();
        new Pushing(driver).register();
        new Pulling(driver).register();
        driver.admins.register();
        new Asking(driver.admins).register(driver);
        for (String later : new String[] {"LitePulling", "Requesting", "Asking5"}) { // not there in every version
            try {
                Class.forName("gomq.interop." + later).getDeclaredConstructor(Driver.class).newInstance(driver);
            } catch (ClassNotFoundException e) {
                System.err.println("this version has no " + later);
            }
        }
        driver.verbs.put("stop", a -> {
            driver.stop(a.need("name"));
            return Json.of();
        });
        driver.serve();
    }

    private void serve() throws Exception {
        ExecutorService pool = Executors.newCachedThreadPool();
        emit(Json.of("event", "ready", "version", MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION),
            "serializeType", RemotingCommand.getSerializeTypeConfigInThisServer().name()));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.trim().split(" ");
            if (words.length >= 2) {
                pool.execute(() -> answer(words));
            }
        }
        Thread limit = new Thread(() -> {
            try {
                Thread.sleep(10_000);
            } catch (InterruptedException e) {
                return;
            }
            Runtime.getRuntime().halt(3);
        });
        limit.setDaemon(true);
        limit.start();
        pool.shutdown();
        pool.awaitTermination(5, TimeUnit.SECONDS);
        for (String name : names()) {
            stop(name);
        }
        System.exit(0);
    }

    private void answer(String[] words) {
        Map<String, Object> line = Json.of("id", Long.parseLong(words[0]));
        try {
            Verb verb = verbs.get(words[1]);
            if (verb == null) {
                throw new IllegalArgumentException("unknown verb " + words[1]);
            }
            Map<String, Object> result = verb.run(new Args(words, 2));
            line.put("ok", true);
            line.putAll(result);
        } catch (Throwable e) {
            line.put("ok", false);
            line.putAll(failure(e));
        }
        emit(line);
    }

    /** The class, message and RocketMQ response code of an exception; the code is 0 where there is none. */
    static Map<String, Object> failure(Throwable e) {
        int code = 0;
        StringBuilder text = new StringBuilder(e.toString());
        for (Throwable t = e; t != null && code == 0; t = t.getCause()) {
            if (t != e) {
                text.append(" <- ").append(t);
            }
            if (t instanceof MQBrokerException) {
                code = ((MQBrokerException) t).getResponseCode();
            } else if (t instanceof MQClientException) {
                code = ((MQClientException) t).getResponseCode();
            }
        }
        return Json.of("error", text.toString(), "code", code);
    }

    void emit(Map<String, Object> line) {
        String text = Json.line(line);
        synchronized (out) {
            out.println(text);
        }
    }

    /** A client's name and where it finds its servers; no VIP channel unless vip=true, and routes that are looked at often. */
    void place(ClientConfig c, String name, Args a) {
        c.setNamesrvAddr(a.get("namesrv", namesrv));
        c.setInstanceName(name);
        c.setVipChannelEnabled(a.flag("vip"));
        c.setPollNameServerInterval(a.number("poll", 1000));
    }

    void started(String name, Runnable stop) {
        synchronized (stops) {
            if (stops.putIfAbsent(name, stop) != null) {
                throw new IllegalStateException("the name " + name + " is taken");
            }
        }
    }

    private String[] names() {
        synchronized (stops) {
            return stops.keySet().toArray(new String[0]);
        }
    }

    void stop(String name) {
        Runnable stop;
        synchronized (stops) {
            stop = stops.remove(name);
        }
        if (stop == null) {
            throw new IllegalArgumentException("nothing is called " + name);
        }
        stop.run();
    }
}
