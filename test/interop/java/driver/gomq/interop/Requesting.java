package gomq.interop;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Request and reply, which clients have since 4.6. replier: a push consumer that replies "re: " and the body. requester:
 * a producer. request: asks and returns the reply.
 */
final class Requesting {
    private final Driver driver;
    private final Map<String, DefaultMQProducer> requesters = new ConcurrentHashMap<>();

    Requesting(Driver driver) {
        this.driver = driver;
        driver.verbs.put("replier", this::replier);
        driver.verbs.put("requester", a -> {
            DefaultMQProducer p = producer(a.need("name"), a);
            requesters.put(a.need("name"), p);
            driver.started(a.need("name"), p::shutdown);
            return Json.of();
        });
        driver.verbs.put("request", a -> {
            DefaultMQProducer p = requesters.get(a.need("name"));
            int ttl = a.number("ttl", 20_000);
            Message reply = a.flag("sync") ? p.request(Messages.build(a, 0), ttl) : asynchronously(p, Messages.build(a, 0), ttl);
            return Json.of("topic", reply.getTopic(), "body", new String(reply.getBody(), StandardCharsets.UTF_8), "properties", reply.getProperties());
        });
    }

    /** The client tells the callback of the sending too, with null for a message. */
    private static Message asynchronously(DefaultMQProducer p, Message m, int ttl) throws Exception {
        CompletableFuture<Message> reply = new CompletableFuture<>();
        p.request(m, new RequestCallback() {
            @Override
            public void onSuccess(Message message) {
                if (message != null) {
                    reply.complete(message);
                }
            }

            @Override
            public void onException(Throwable e) {
                reply.completeExceptionally(e);
            }
        }, ttl);
        return reply.get(ttl + 10_000, TimeUnit.MILLISECONDS);
    }

    private DefaultMQProducer producer(String name, Args a) throws Exception {
        DefaultMQProducer p = new DefaultMQProducer(name);
        driver.place(p, name, a);
        p.setSendMsgTimeout(10_000);
        p.setHeartbeatBrokerInterval(1000);
        p.start();
        return p;
    }

    private Map<String, Object> replier(Args a) throws Exception {
        String name = a.need("name");
        DefaultMQProducer replies = producer(name + "_replies", a);
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(name);
        driver.place(c, name, a);
        c.setHeartbeatBrokerInterval(1000);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(a.need("topic"), "*");
        c.registerMessageListener((MessageListenerConcurrently) (msgs, context) -> {
            for (MessageExt m : msgs) {
                try {
                    String text = "re: " + new String(m.getBody(), StandardCharsets.UTF_8);
                    var sent = replies.send(MessageUtil.createReplyMessage(m, text.getBytes(StandardCharsets.UTF_8)), 10_000);
                    driver.emit(Json.of("event", "reply", "consumer", name, "status", sent.getSendStatus().name()));
                } catch (Exception e) {
                    System.err.println("a reply failed: " + e);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        driver.started(name, () -> {
            c.shutdown();
            replies.shutdown();
        });
        return Json.of();
    }
}
