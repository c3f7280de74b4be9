package gomq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * txProducer, tx: a producer of transactions that end as the message's keys begin: "commit" and "rollback" at once,
 * "late-commit" and "late-rollback" when the broker asks, others never. What it is asked about is an event of the
 * consumer NAME-asked.
 */
final class Transacting {
    private final Driver driver;
    private final Map<String, TransactionMQProducer> producers = new ConcurrentHashMap<>();

    Transacting(Driver driver) {
        this.driver = driver;
    }

    void register() {
        driver.verbs.put("txProducer", this::start);
        driver.verbs.put("tx", this::send);
    }

    private Map<String, Object> start(Args a) throws Exception {
        String name = a.need("name");
        TransactionMQProducer p = new TransactionMQProducer(a.get("group", name));
        driver.place(p, name, a);
        p.setSendMsgTimeout(10_000);
        p.setHeartbeatBrokerInterval(500);
        p.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return decide(m, "");
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                Map<String, Object> line = Json.of("event", "message", "consumer", name + "-asked");
                line.putAll(Messages.json(m));
                driver.emit(line);
                return decide(m, "late-");
            }
        });
        p.start();
        producers.put(name, p);
        driver.started(name, () -> {
            producers.remove(name);
            p.shutdown();
        });
        return Json.of();
    }

    private static LocalTransactionState decide(Message m, String prefix) {
        String keys = m.getKeys();
        if (keys.startsWith(prefix + "commit")) {
            return LocalTransactionState.COMMIT_MESSAGE;
        }
        return keys.startsWith(prefix + "rollback") ? LocalTransactionState.ROLLBACK_MESSAGE : LocalTransactionState.UNKNOW;
    }

    private Map<String, Object> send(Args a) throws Exception {
        TransactionMQProducer p = producers.get(a.need("name"));
        if (p == null) {
            throw new IllegalArgumentException("no transaction producer " + a.need("name"));
        }
        List<Object> results = new ArrayList<>();
        for (int i = 0; i < a.number("count", 1); i++) {
            results.add(Messages.json(p.sendMessageInTransaction(Messages.build(a, i), null)));
        }
        return Json.of("results", results);
    }
}
