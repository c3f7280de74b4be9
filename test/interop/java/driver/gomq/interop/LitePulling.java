package gomq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;

/** The lite pull consumer (since 4.6): lite, litePoll, liteCommit, liteCommitted, liteSeek. Found by its name. */
final class LitePulling {
    private final Driver driver;
    private final Map<String, DefaultLitePullConsumer> consumers = new ConcurrentHashMap<>();

    LitePulling(Driver driver) {
        this.driver = driver;
        driver.verbs.put("lite", this::start);
        driver.verbs.put("litePoll", a -> Json.of("messages", Messages.json(need(a).poll(a.number("timeout", 1000)))));
        driver.verbs.put("liteCommit", a -> {
            // commitSync only notes the offsets; what reaches the broker is the persist of all assigned queues.
            DefaultLitePullConsumer c = need(a);
            c.commitSync();
            return Json.of();
        });
        driver.verbs.put("liteCommitted", a -> Json.of("offset", need(a).committed(Messages.queue(a))));
        driver.verbs.put("liteSeek", a -> {
            need(a).seek(Messages.queue(a), a.big("offset", 0));
            return Json.of();
        });
    }

    /** With assign=true all queues of the topic are taken by hand; else they are shared out in the group. */
    private Map<String, Object> start(Args a) throws Exception {
        String name = a.need("name");
        DefaultLitePullConsumer c = new DefaultLitePullConsumer(a.get("group", name));
        driver.place(c, name, a);
        c.setHeartbeatBrokerInterval(a.number("heartbeat", 2000));
        c.setAutoCommit(a.flag("autoCommit"));
        c.setConsumeFromWhere(ConsumeFromWhere.valueOf(a.get("from", "CONSUME_FROM_FIRST_OFFSET")));
        String topic = a.need("topic");
        if (a.flag("assign")) {
            c.start();
            List<MessageQueue> queues = new ArrayList<>(c.fetchMessageQueues(topic));
            c.assign(queues);
        } else {
            if (a.has("sql")) {
                c.subscribe(topic, MessageSelector.bySql(a.need("sql")));
            } else {
                c.subscribe(topic, a.get("expression", "*"));
            }
            c.start();
        }
        consumers.put(name, c);
        driver.started(name, () -> {
            consumers.remove(name);
            c.shutdown();
        });
        return Json.of();
    }

    private DefaultLitePullConsumer need(Args a) {
        DefaultLitePullConsumer c = consumers.get(a.need("name"));
        if (c == null) {
            throw new IllegalArgumentException("no lite pull consumer " + a.need("name"));
        }
        return c;
    }
}
