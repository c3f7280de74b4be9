package gomq.interop;

import java.util.ArrayList;
import java.util.List;

import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;

/** What only the administration client of 5.x asks: topicsOf, subscriptionOf, groupOf, topicList, groupList, resetQueue. */
final class Asking5 {
    Asking5(Driver driver) {
        Administering admins = driver.admins;
        driver.verbs.put("topicsOf", a -> Json.of("topics", admins.need(a).queryTopicsByConsumer(a.need("group")).getTopicList()));
        driver.verbs.put("subscriptionOf", a -> {
            var s = admins.need(a).querySubscription(a.need("group"), a.need("topic"));
            return Json.of("expression", s == null ? null : s.getSubString());
        });
        driver.verbs.put("groupOf", a -> {
            var g = admins.need(a).examineSubscriptionGroupConfig(a.need("addr"), a.need("group"));
            return Json.of("group", g.getGroupName(), "retries", g.getRetryMaxTimes());
        });
        driver.verbs.put("topicList", a -> {
            List<TopicConfig> list = new ArrayList<>();
            for (String name : a.need("topics").split(",")) {
                list.add(new TopicConfig(name, a.number("queues", 2), a.number("queues", 2), 6));
            }
            admins.need(a).createAndUpdateTopicConfigList(a.need("addr"), list);
            return Json.of();
        });
        driver.verbs.put("groupList", a -> {
            List<SubscriptionGroupConfig> list = new ArrayList<>();
            for (String name : a.need("groups").split(",")) {
                SubscriptionGroupConfig g = new SubscriptionGroupConfig();
                g.setGroupName(name);
                g.setRetryMaxTimes(a.number("retries", 16));
                list.add(g);
            }
            admins.need(a).createAndUpdateSubscriptionGroupConfigList(a.need("addr"), list);
            return Json.of();
        });
        driver.verbs.put("resetQueue", a -> {
            admins.need(a).resetOffsetByQueueId(a.need("addr"), a.need("group"), a.need("topic"), a.number("queue", 0), a.big("offset", 0));
            return Json.of();
        });
    }
}
