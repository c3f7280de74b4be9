package gomq.interop;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * What administrators ask of consumers through the broker and of the broker itself: runningInfo, consumeDirectly,
 * clientStatus, resetOffset, timeSpans, cloneOffset, brokerStats, brokerConsumeStats, queueEntries, clean, and mqadmin
 * for whole commands of the tool.
 */
final class Asking {
    private final Administering admins;

    Asking(Administering admins) {
        this.admins = admins;
    }

    void register(Driver driver) {
        driver.verbs.put("runningInfo", this::runningInfo);
        driver.verbs.put("consumeDirectly", a -> {
            var r = admins.need(a).consumeMessageDirectly(a.need("group"), a.need("clientId"), a.need("topic"), a.need("msgId"));
            return Json.of("result", r.getConsumeResult().name(), "order", r.isOrder());
        });
        driver.verbs.put("clientStatus", this::clientStatus);
        driver.verbs.put("resetOffset", a -> Json.of("queues", offsets(
            admins.need(a).resetOffsetByTimestamp(a.need("topic"), a.need("group"), a.big("timestamp", -1), a.flag("force")))));
        driver.verbs.put("timeSpans", this::timeSpans);
        driver.verbs.put("cloneOffset", a -> {
            admins.need(a).cloneGroupOffset(a.need("from"), a.need("to"), a.need("topic"), true);
            return Json.of();
        });
        driver.verbs.put("brokerStats", a -> {
            var s = admins.need(a).viewBrokerStatsData(a.need("addr"), a.need("stats"), a.need("key"));
            return Json.of("minute", s.getStatsMinute().getSum(), "day", s.getStatsDay().getSum());
        });
        driver.verbs.put("brokerConsumeStats", this::brokerConsumeStats);
        driver.verbs.put("queueEntries", a -> {
            var r = admins.need(a).queryConsumeQueue(a.need("addr"), a.need("topic"), a.number("queue", 0), a.big("index", 0),
                a.number("count", 10), a.get("group", null));
            return Json.of("min", r.getMinQueueIndex(), "max", r.getMaxQueueIndex(), "entries", r.getQueueData().size(),
                "filter", r.getFilterData(), "tags", r.getQueueData().isEmpty() ? 0L : r.getQueueData().get(0).getTagsCode());
        });
        driver.verbs.put("clean", a -> {
            DefaultMQAdminExt admin = admins.need(a);
            return Json.of("queues", admin.cleanExpiredConsumerQueueByAddr(a.need("addr")), "topics", admin.cleanUnusedTopicByAddr(a.need("addr")));
        });
        driver.verbs.put("mqadmin", this::mqadmin);
    }

    private Map<String, Object> runningInfo(Args a) throws Exception {
        var r = admins.need(a).getConsumerRunningInfo(a.need("group"), a.need("clientId"), a.flag("jstack"));
        Map<String, Object> queues = new TreeMap<>();
        r.getMqTable().forEach((q, p) -> queues.put(q.getTopic() + "/" + q.getQueueId(), p.getCommitOffset()));
        return Json.of("type", r.getProperties().getProperty("PROP_CONSUME_TYPE"), "version",
            r.getProperties().getProperty("PROP_CLIENT_VERSION"), "queues", queues, "topics", new ArrayList<>(r.getStatusTable().keySet()),
            "jstack", r.getJstack() == null ? 0 : r.getJstack().length());
    }

    private static Map<String, Object> offsets(Map<MessageQueue, Long> table) {
        Map<String, Object> queues = new TreeMap<>();
        table.forEach((q, o) -> queues.put(q.getBrokerName() + "/" + q.getQueueId(), o));
        return queues;
    }

    private Map<String, Object> clientStatus(Args a) throws Exception {
        Map<String, Object> clients = new TreeMap<>();
        admins.need(a).getConsumeStatus(a.need("topic"), a.need("group"), a.get("clientId", "")).forEach((id, t) -> clients.put(id, offsets(t)));
        return Json.of("clients", clients);
    }

    private Map<String, Object> timeSpans(Args a) throws Exception {
        List<Object> list = new ArrayList<>();
        for (var s : admins.need(a).queryConsumeTimeSpan(a.need("topic"), a.need("group"))) {
            list.add(Json.of("queue", Messages.json(s.getMessageQueue()), "min", s.getMinTimeStamp(), "max", s.getMaxTimeStamp(),
                "consumed", s.getConsumeTimeStamp(), "delay", s.getDelayTime()));
        }
        return Json.of("spans", list);
    }

    private Map<String, Object> brokerConsumeStats(Args a) throws Exception {
        var all = admins.need(a).fetchConsumeStatsInBroker(a.need("addr"), a.flag("order"), 10_000);
        Map<String, Object> queues = new TreeMap<>();
        for (var group : all.getConsumeStatsList()) {
            group.getOrDefault(a.need("group"), List.of()).forEach(s -> s.getOffsetTable().forEach((q, o) ->
                queues.put(q.getTopic() + "/" + q.getQueueId(), o.getBrokerOffset() - o.getConsumerOffset())));
        }
        return Json.of("addr", all.getBrokerAddr(), "diff", all.getTotalDiff(), "queues", queues);
    }

    /** Runs one command of the tool, its words separated by blanks, and returns what it printed, errors too. */
    private synchronized Map<String, Object> mqadmin(Args a) {
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream both = new PrintStream(printed, true);
        System.setOut(both);
        System.setErr(both);
        try {
            MQAdminStartup.main0(a.need("command").split(" "), null);
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        return Json.of("printed", printed.toString());
    }
}
