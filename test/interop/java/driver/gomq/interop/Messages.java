package gomq.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;

import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Messages, queues and send results, from arguments and as JSON. */
final class Messages {
    private Messages() {
    }

    /**
     * The i-th message of a command: topic, tag, keys (repeated by the client's own separator, a blank), body, delay and
     * prop.NAME. "{i}" in body, tag and keys stands for the number of the message; size pads the body with a pattern.
     * base64 is a body of any bytes.
     */
    static Message build(Args a, int i) {
        String n = Integer.toString(i);
        byte[] body = a.get("body", "").replace("{i}", n).getBytes(StandardCharsets.UTF_8);
        if (a.has("base64")) {
            body = Base64.getDecoder().decode(a.need("base64"));
        }
        int size = a.number("size", body.length);
        if (size > body.length) {
            byte[] padded = new byte[size];
            System.arraycopy(body, 0, padded, 0, body.length);
            for (int j = body.length; j < size; j++) {
                padded[j] = (byte) ('a' + j % 26);
            }
            body = padded;
        }
        Message m = new Message(a.need("topic"), body);
        if (a.has("tag")) {
            m.setTags(a.need("tag").replace("{i}", n));
        }
        if (a.has("keys")) {
            m.setKeys(a.need("keys").replace("{i}", n));
        }
        if (a.has("flag")) {
            m.setFlag(a.number("flag", 0));
        }
        if (a.has("wait")) {
            m.setWaitStoreMsgOK(a.flag("wait"));
        }
        if (a.has("delay")) {
            m.setDelayTimeLevel(a.number("delay", 0));
        }
        // putUserProperty refuses empty values, which other clients do send, so those go in by the map.
        for (Map.Entry<String, String> p : a.under("prop.").entrySet()) {
            if (p.getValue().isEmpty()) {
                m.getProperties().put(p.getKey(), "");
            } else {
                m.putUserProperty(p.getKey(), p.getValue());
            }
        }
        return m;
    }

    static Map<String, Object> json(SendResult r) {
        return Json.of("status", r.getSendStatus().name(), "msgId", r.getMsgId(), "offsetMsgId", r.getOffsetMsgId(),
            "queue", json(r.getMessageQueue()), "queueOffset", r.getQueueOffset(), "region", r.getRegionId(),
            "traceOn", r.isTraceOn());
    }

    static Map<String, Object> json(MessageQueue q) {
        return q == null ? null : Json.of("topic", q.getTopic(), "broker", q.getBrokerName(), "queueId", q.getQueueId());
    }

    static Map<String, Object> json(MessageExt m) {
        // msgId is the unique id that the producer made; the parent's accessor of some versions hides the offset id.
        String offsetId = null;
        if (m instanceof org.apache.rocketmq.common.message.MessageClientExt) {
            offsetId = ((org.apache.rocketmq.common.message.MessageClientExt) m).getOffsetMsgId();
        }
        return Json.of("topic", m.getTopic(), "tags", m.getTags(), "keys", m.getKeys(), "msgId", m.getMsgId(),
            "offsetMsgId", offsetId, "queueId", m.getQueueId(), "queueOffset", m.getQueueOffset(),
            "body", m.getBody() == null ? null : Base64.getEncoder().encodeToString(m.getBody()),
            "properties", m.getProperties(), "sysFlag", m.getSysFlag(), "flag", m.getFlag(),
            "storeSize", m.getStoreSize(), "reconsumeTimes", m.getReconsumeTimes(),
            "bornTimestamp", m.getBornTimestamp(), "storeTimestamp", m.getStoreTimestamp(),
            "bornHost", String.valueOf(m.getBornHost()), "storeHost", String.valueOf(m.getStoreHost()),
            "commitLogOffset", m.getCommitLogOffset());
    }

    static List<Object> json(List<MessageExt> all) {
        List<Object> list = new ArrayList<>();
        if (all != null) {
            for (MessageExt m : all) {
                list.add(json(m));
            }
        }
        return list;
    }

    static MessageQueue queue(Args a) {
        return new MessageQueue(a.need("topic"), a.need("broker"), a.number("queue", 0));
    }
}
