package gomq.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;

import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** admin and what the administration client can ask: topics, routes, cluster, statistics, messages by key and id. */
final class Administering {
    private final Driver driver;
    private final Map<String, DefaultMQAdminExt> admins = new ConcurrentHashMap<>();

    Administering(Driver driver) {
        this.driver = driver;
    }

    void register() {
        driver.verbs.put("admin", this::start);
        driver.verbs.put("createTopic", this::createTopic);
        driver.verbs.put("deleteTopic", a -> {
            need(a).deleteTopicInBroker(java.util.Set.of(a.need("addr")), a.need("topic"));
            return Json.of();
        });
        driver.verbs.put("route", this::route);
        driver.verbs.put("cluster", this::cluster);
        driver.verbs.put("topics", a -> Json.of("topics", need(a).fetchAllTopicList().getTopicList()));
        driver.verbs.put("topicStats", this::topicStats);
        driver.verbs.put("consumeStats", this::consumeStats);
        driver.verbs.put("consumerConnection", this::consumerConnection);
        driver.verbs.put("queryKey", a -> {
            QueryResult r = need(a).queryMessage(a.need("topic"), a.need("key"), a.number("max", 32),
                a.big("begin", 0), a.big("end", Long.MAX_VALUE));
            return Json.of("messages", Messages.json(r.getMessageList()), "indexTime", r.getIndexLastUpdateTimestamp());
        });
        driver.verbs.put("view", a -> Json.of("message", Messages.json(need(a).viewMessage(a.need("topic"), a.need("msgId")))));
    }

    private Map<String, Object> start(Args a) throws Exception {
        String name = a.need("name");
        DefaultMQAdminExt admin = new DefaultMQAdminExt(a.number("timeout", 10_000));
        driver.place(admin, name, a);
        admin.start();
        admins.put(name, admin);
        driver.started(name, () -> {
            admins.remove(name);
            admin.shutdown();
        });
        return Json.of();
    }

    DefaultMQAdminExt need(Args a) {
        DefaultMQAdminExt admin = admins.get(a.need("name"));
        if (admin == null) {
            throw new IllegalArgumentException("no admin " + a.need("name"));
        }
        return admin;
    }

    private Map<String, Object> createTopic(Args a) throws Exception {
        TopicConfig t = new TopicConfig(a.need("topic"));
        t.setReadQueueNums(a.number("read", 4));
        t.setWriteQueueNums(a.number("write", 4));
        t.setPerm(a.number("perm", 6));
        need(a).createAndUpdateTopicConfig(a.need("addr"), t);
        return Json.of();
    }

    private Map<String, Object> route(Args a) throws Exception {
        var r = need(a).examineTopicRouteInfo(a.need("topic"));
        if (r == null) {
            return Json.of("found", false);
        }
        List<Object> queues = new ArrayList<>();
        for (var q : r.getQueueDatas()) {
            queues.add(Json.of("broker", q.getBrokerName(), "read", q.getReadQueueNums(), "write", q.getWriteQueueNums(),
                "perm", q.getPerm()));
        }
        List<Object> brokers = new ArrayList<>();
        for (var b : r.getBrokerDatas()) {
            brokers.add(Json.of("cluster", b.getCluster(), "broker", b.getBrokerName(),
                "addrs", new TreeMap<>(b.getBrokerAddrs())));
        }
        return Json.of("found", true, "queues", queues, "brokers", brokers, "order", r.getOrderTopicConf());
    }

    private Map<String, Object> cluster(Args a) throws Exception {
        var c = need(a).examineBrokerClusterInfo();
        Map<String, Object> brokers = new TreeMap<>();
        for (var b : c.getBrokerAddrTable().values()) {
            brokers.put(b.getBrokerName(), new TreeMap<>(b.getBrokerAddrs()));
        }
        return Json.of("clusters", c.getClusterAddrTable(), "brokers", brokers);
    }

    private Map<String, Object> topicStats(Args a) throws Exception {
        Map<String, Object> queues = new TreeMap<>();
        need(a).examineTopicStats(a.need("topic")).getOffsetTable().forEach((q, o) ->
            queues.put(q.getBrokerName() + "/" + q.getQueueId(),
                Json.of("min", o.getMinOffset(), "max", o.getMaxOffset(), "updated", o.getLastUpdateTimestamp())));
        return Json.of("queues", queues);
    }

    private Map<String, Object> consumeStats(Args a) throws Exception {
        Map<String, Object> queues = new TreeMap<>();
        need(a).examineConsumeStats(a.need("group"), a.need("topic")).getOffsetTable().forEach((q, o) -> {
            if (q.getTopic().equals(a.get("topic", ""))) {
                queues.put(q.getBrokerName() + "/" + q.getQueueId(),
                    Json.of("broker", o.getBrokerOffset(), "consumer", o.getConsumerOffset()));
            }
        });
        return Json.of("queues", queues);
    }

    private Map<String, Object> consumerConnection(Args a) throws Exception {
        var c = need(a).examineConsumerConnectionInfo(a.need("group"));
        List<Object> clients = new ArrayList<>();
        for (var x : c.getConnectionSet()) {
            clients.add(Json.of("clientId", x.getClientId(), "language", x.getLanguage().name(), "version", x.getVersion()));
        }
        Map<String, Object> subscriptions = new TreeMap<>();
        c.getSubscriptionTable().forEach((topic, s) -> subscriptions.put(topic, s.getSubString()));
        return Json.of("clients", clients, "subscriptions", subscriptions, "model", c.getMessageModel().name(),
            "type", c.getConsumeType().name(), "from", c.getConsumeFromWhere().name());
    }
}
