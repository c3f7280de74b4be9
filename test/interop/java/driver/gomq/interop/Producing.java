package gomq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** producer, send (mode=sync|async|oneway), batch, publishQueues. */
final class Producing {
    private final Driver driver;
    private final Map<String, DefaultMQProducer> producers = new ConcurrentHashMap<>();

    Producing(Driver driver) {
        this.driver = driver;
    }

    void register() {
        driver.verbs.put("producer", this::start);
        driver.verbs.put("send", this::send);
        driver.verbs.put("batch", this::batch);
        driver.verbs.put("publishQueues", a -> {
            List<Object> list = new ArrayList<>();
            for (MessageQueue q : need(a).fetchPublishMessageQueues(a.need("topic"))) {
                list.add(Messages.json(q));
            }
            return Json.of("queues", list);
        });
    }

    private Map<String, Object> start(Args a) throws Exception {
        String name = a.need("name");
        DefaultMQProducer p = a.has("trace") // to a topic of that name, the default one if it is empty
            ? new DefaultMQProducer(a.get("group", name), true, a.need("trace").isEmpty() ? null : a.need("trace"))
            : made(a.get("group", name), a.get("compress", ""));
        if (a.has("namespace")) {
            p.setNamespace(a.need("namespace"));
        }
        driver.place(p, name, a);
        p.setSendMsgTimeout(a.number("timeout", 10_000));
        p.setRetryTimesWhenSendFailed(a.number("retries", 2));
        p.start();
        producers.put(name, p);
        driver.started(name, () -> {
            producers.remove(name);
            p.shutdown();
        });
        return Json.of();
    }

    /** Clients since 4.9.4 take the kind of compression (LZ4, ZSTD, ZLIB) from a system property when they are made. */
    private static synchronized DefaultMQProducer made(String group, String compress) {
        if (compress.isEmpty()) {
            return new DefaultMQProducer(group);
        }
        System.setProperty("rocketmq.message.compressType", compress);
        try {
            return new DefaultMQProducer(group);
        } finally {
            System.clearProperty("rocketmq.message.compressType");
        }
    }

    private DefaultMQProducer need(Args a) {
        DefaultMQProducer p = producers.get(a.need("name"));
        if (p == null) {
            throw new IllegalArgumentException("no producer " + a.need("name"));
        }
        return p;
    }

    private Map<String, Object> send(Args a) throws Exception {
        DefaultMQProducer p = need(a);
        int count = a.number("count", 1);
        MessageQueue queue = a.has("queue") ? Messages.queue(a) : null;
        List<Object> results = new ArrayList<>();
        switch (a.get("mode", "sync")) {
            case "sync":
                for (int i = 0; i < count; i++) {
                    Message m = Messages.build(a, i);
                    results.add(Messages.json(queue == null ? p.send(m) : p.send(m, queue)));
                }
                return Json.of("results", results);
            case "oneway":
                for (int i = 0; i < count; i++) {
                    Message m = Messages.build(a, i);
                    if (queue == null) {
                        p.sendOneway(m);
                    } else {
                        p.sendOneway(m, queue);
                    }
                }
                return Json.of("results", results);
            case "async":
                return async(p, a, count, queue);
            default:
                throw new IllegalArgumentException("mode " + a.need("mode"));
        }
    }

    /** All messages at once; results in the order of the messages, an entry with "error" where one failed. */
    private static Map<String, Object> async(DefaultMQProducer p, Args a, int count, MessageQueue queue) throws Exception {
        Object[] results = new Object[count];
        CountDownLatch left = new CountDownLatch(count);
        for (int i = 0; i < count; i++) {
            int n = i;
            SendCallback callback = new SendCallback() {
                @Override
                public void onSuccess(SendResult r) {
                    results[n] = Messages.json(r);
                    left.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    results[n] = Driver.failure(e);
                    left.countDown();
                }
            };
            Message m = Messages.build(a, i);
            if (queue == null) {
                p.send(m, callback);
            } else {
                p.send(m, queue, callback);
            }
        }
        if (!left.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException(left.getCount() + " of " + count + " callbacks did not come in 60 s");
        }
        return Json.of("results", List.of(results));
    }

    private Map<String, Object> batch(Args a) throws Exception {
        List<Message> list = new ArrayList<>();
        for (int i = 0; i < a.number("count", 1); i++) {
            list.add(Messages.build(a, i));
        }
        return Json.of("results", List.of(Messages.json(need(a).send(list))));
    }
}
