package gomq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** push: a push consumer whose messages are events. assigned: the queues that it holds now. persist: commits at once. */
final class Pushing {
    private final Driver driver;
    private final Map<String, DefaultMQPushConsumer> consumers = new ConcurrentHashMap<>();

    Pushing(Driver driver) {
        this.driver = driver;
    }

    void register() {
        driver.verbs.put("push", this::start);
        driver.verbs.put("assigned", this::assigned);
        driver.verbs.put("persist", a -> {
            need(a).getDefaultMQPushConsumerImpl().persistConsumerOffset();
            return Json.of();
        });
    }

    private Map<String, Object> start(Args a) throws Exception {
        String name = a.need("name");
        DefaultMQPushConsumer c = a.has("trace")
            ? new DefaultMQPushConsumer(a.get("group", name), true, a.need("trace").isEmpty() ? null : a.need("trace"))
            : new DefaultMQPushConsumer(a.get("group", name));
        if (a.has("namespace")) {
            c.setNamespace(a.need("namespace"));
        }
        driver.place(c, name, a);
        c.setHeartbeatBrokerInterval(a.number("heartbeat", 2000));
        c.setConsumeThreadMin(2);
        c.setConsumeThreadMax(2);
        c.setConsumeFromWhere(ConsumeFromWhere.valueOf(a.get("from", "CONSUME_FROM_FIRST_OFFSET")));
        if (a.has("timestamp")) {
            c.setConsumeTimestamp(a.need("timestamp"));
        }
        if (a.has("maxReconsume")) {
            c.setMaxReconsumeTimes(a.number("maxReconsume", -1));
        }
        if (a.flag("broadcast")) {
            // The type lives in another package in 5.x; var lets one source serve both.
            var model = c.getMessageModel();
            c.setMessageModel(Enum.valueOf(model.getDeclaringClass(), "BROADCASTING"));
        }
        if (a.get("strategy", "").equals("circle")) {
            c.setAllocateMessageQueueStrategy(new AllocateMessageQueueAveragelyByCircle());
        }
        if (a.has("sql")) {
            c.subscribe(a.need("topic"), MessageSelector.bySql(a.need("sql")));
        } else {
            c.subscribe(a.need("topic"), a.get("expression", "*"));
        }
        if (a.flag("orderly")) {
            // The messages that say "stuck" hold up their queue so many times.
            int suspensions = a.number("suspensions", 0);
            Map<String, Integer> tried = new ConcurrentHashMap<>();
            c.setConsumeMessageBatchMaxSize(1);
            c.registerMessageListener((MessageListenerOrderly) (msgs, context) -> {
                received(name, msgs);
                MessageExt m = msgs.get(0);
                if ("stuck".equals(m.getTags()) && tried.merge(m.getMsgId(), 1, Integer::sum) <= suspensions) {
                    context.setSuspendCurrentQueueTimeMillis(100);
                    return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                }
                return ConsumeOrderlyStatus.SUCCESS;
            });
        } else {
            int failures = a.number("failures", 0);
            c.registerMessageListener((MessageListenerConcurrently) (msgs, context) -> {
                received(name, msgs);
                return msgs.get(0).getReconsumeTimes() < failures
                    ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
        try {
            c.start();
        } catch (MQClientException e) {
            c.shutdown(); // a start that a broker refused leaves a client running
            throw e;
        }
        consumers.put(name, c);
        driver.started(name, () -> {
            consumers.remove(name);
            c.shutdown();
        });
        return Json.of();
    }

    private void received(String name, List<MessageExt> msgs) {
        for (MessageExt m : msgs) {
            Map<String, Object> line = Json.of("event", "message", "consumer", name);
            line.putAll(Messages.json(m));
            driver.emit(line);
        }
    }

    private Map<String, Object> assigned(Args a) {
        DefaultMQPushConsumer c = need(a);
        List<Object> list = new ArrayList<>();
        for (MessageQueue q : c.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet()) {
            if (q.getTopic().equals(a.need("topic"))) {
                list.add(Messages.json(q));
            }
        }
        return Json.of("queues", list);
    }

    private DefaultMQPushConsumer need(Args a) {
        DefaultMQPushConsumer c = consumers.get(a.need("name"));
        if (c == null) {
            throw new IllegalArgumentException("no consumer " + a.need("name"));
        }
        return c;
    }
}
