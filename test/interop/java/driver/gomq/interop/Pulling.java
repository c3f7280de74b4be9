package gomq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullCallback;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.message.MessageQueue;

/** The pull consumer of 4.x, where the application keeps the offsets; 5.x still has it, deprecated. */
@SuppressWarnings("deprecation")
final class Pulling {
    private final Driver driver;
    private final Map<String, DefaultMQPullConsumer> consumers = new ConcurrentHashMap<>();

    Pulling(Driver driver) {
        this.driver = driver;
    }

    void register() {
        driver.verbs.put("puller", this::start);
        driver.verbs.put("pull", this::pull);
        driver.verbs.put("pullQueues", a -> {
            List<Object> list = new ArrayList<>();
            for (MessageQueue q : need(a).fetchSubscribeMessageQueues(a.need("topic"))) {
                list.add(Messages.json(q));
            }
            return Json.of("queues", list);
        });
        driver.verbs.put("minOffset", a -> Json.of("offset", need(a).minOffset(Messages.queue(a))));
        driver.verbs.put("maxOffset", a -> Json.of("offset", need(a).maxOffset(Messages.queue(a))));
        driver.verbs.put("searchOffset", a ->
            Json.of("offset", need(a).searchOffset(Messages.queue(a), a.big("timestamp", 0))));
        driver.verbs.put("earliestTime", a ->
            Json.of("timestamp", need(a).earliestMsgStoreTime(Messages.queue(a))));
        driver.verbs.put("committed", a ->
            Json.of("offset", need(a).fetchConsumeOffset(Messages.queue(a), true)));
        driver.verbs.put("commit", a -> {
            DefaultMQPullConsumer c = need(a);
            c.updateConsumeOffset(Messages.queue(a), a.big("offset", 0));
            c.getDefaultMQPullConsumerImpl().getOffsetStore().persist(Messages.queue(a));
            return Json.of();
        });
    }

    private Map<String, Object> start(Args a) throws Exception {
        String name = a.need("name");
        DefaultMQPullConsumer c = new DefaultMQPullConsumer(a.get("group", name));
        driver.place(c, name, a);
        c.setHeartbeatBrokerInterval(a.number("heartbeat", 2000));
        c.start();
        consumers.put(name, c);
        driver.started(name, () -> {
            consumers.remove(name);
            c.shutdown();
        });
        return Json.of();
    }

    private DefaultMQPullConsumer need(Args a) {
        DefaultMQPullConsumer c = consumers.get(a.need("name"));
        if (c == null) {
            throw new IllegalArgumentException("no pull consumer " + a.need("name"));
        }
        return c;
    }

    /** mode: sync (no waiting), block (the broker holds the request until something comes), async (with a callback). */
    private Map<String, Object> pull(Args a) throws Exception {
        DefaultMQPullConsumer c = need(a);
        MessageQueue q = Messages.queue(a);
        String expression = a.get("expression", "*");
        long offset = a.big("offset", 0);
        int max = a.number("max", 32);
        switch (a.get("mode", "sync")) {
            case "sync":
                return json(a.has("sql") ? c.pull(q, MessageSelector.bySql(a.need("sql")), offset, max) : c.pull(q, expression, offset, max));
            case "block":
                return json(c.pullBlockIfNotFound(q, expression, offset, max));
            case "async":
                CompletableFuture<PullResult> done = new CompletableFuture<>();
                c.pull(q, expression, offset, max, new PullCallback() {
                    @Override
                    public void onSuccess(PullResult r) {
                        done.complete(r);
                    }

                    @Override
                    public void onException(Throwable e) {
                        done.completeExceptionally(e);
                    }
                });
                return json(done.get(30, TimeUnit.SECONDS));
            default:
                throw new IllegalArgumentException("mode " + a.need("mode"));
        }
    }

    private static Map<String, Object> json(PullResult r) {
        return Json.of("status", r.getPullStatus().name(), "next", r.getNextBeginOffset(), "min", r.getMinOffset(),
            "max", r.getMaxOffset(), "messages", Messages.json(r.getMsgFoundList()));
    }
}
