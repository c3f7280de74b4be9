package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"gomq/internal/protocol"
)

// ahead is an offset that this slave has and its master has not.
type ahead struct {
	topic, group  string
	queue         int32
	offset, stamp int64
}

// takeOffsets merges the master's offsets into those here and gives back what is
// newer here.
func (f *follower) takeOffsets(ctx context.Context, addr string, life masterLife) error {
	var table, stamps protocol.OffsetTable
	if err := f.call(ctx, func(ctx context.Context) (err error) {
		table, stamps, err = f.client.StampedOffsets(ctx, addr)
		return err
	}); err != nil {
		return err
	}
	same := f.life == life
	push, err := f.mergeOffsets(table, stamps, same)
	push = append(push, f.missing(table, same)...)
	f.seen = table
	err = errors.Join(err, f.push(ctx, addr, push))
	return errors.Join(err, f.keepLife(life))
}

// mergeOffsets takes the master's table and returns what is newer here.
//
// A master that keeps no stamps (Java's) is believed in another way: in one run of
// it, what goes back was set back on purpose. Its first table after a start may be
// older than what it said before, so then the larger offset counts.
func (f *follower) mergeOffsets(table, stamps protocol.OffsetTable, same bool) (push []ahead, err error) {
	refused, example := 0, error(nil)
	for key, queues := range table {
		topic, group, _ := strings.Cut(key, "@")
		for queue, offset := range queues {
			stamp := stamps[key][queue]
			if stamps == nil && same && f.steppedBack(key, topic, group, queue, offset) {
				stamp = max(f.now().UnixMilli(), f.offsets.Stamp(topic, group, queue)+1)
			}
			taken, err := f.offsets.Merge(topic, group, queue, offset, stamp)
			if err != nil {
				refused, example = refused+1, fmt.Errorf("%.200q queue %d: %w", key, queue, err)
			} else if !taken {
				push = f.aheadAt(push, topic, group, queue)
			}
		}
	}
	if refused > 0 {
		err = fmt.Errorf("%d of the master's offsets cannot be kept, one of them %w", refused, example)
	}
	return push, err
}

// steppedBack says whether the master itself has set an offset back since the last
// round, or, when that is not known, whether it says less than what is here.
func (f *follower) steppedBack(key, topic, group string, queue int32, offset int64) bool {
	if was, ok := f.seen[key][queue]; ok {
		return offset < was
	}
	own, ok := f.offsets.Query([]byte(topic), []byte(group), queue)
	return ok && offset < own
}

// aheadAt adds what is here to what the master is given; how far the master itself
// has come with its transactions is its own affair.
func (f *follower) aheadAt(push []ahead, topic, group string, queue int32) []ahead {
	if systemGroup(group) {
		return push
	}
	offset, ok := f.offsets.Query([]byte(topic), []byte(group), queue)
	if !ok {
		return push
	}
	return append(push, ahead{topic, group, queue, offset, f.offsets.Stamp(topic, group, queue)})
}

// missing looks at the offsets that only this slave has. What the master has had in
// this run of it, it has removed. The rest it may have lost, or has never been told:
// that is given to it when it still knows the group.
func (f *follower) missing(table protocol.OffsetTable, same bool) (push []ahead) {
	for key, queues := range f.offsets.Table() {
		if table[key] != nil {
			for queue := range queues {
				if _, ok := table[key][queue]; !ok {
					topic, group, _ := strings.Cut(key, "@")
					push = f.aheadAt(push, topic, group, queue)
				}
			}
			continue
		}
		topic, group, _ := strings.Cut(key, "@")
		switch {
		case same && f.seen[key] != nil:
			f.offsets.Forget(topic, group)
		case f.groups.Get([]byte(group)) != nil && f.topics.Get([]byte(topic)) != nil:
			for queue := range queues {
				push = f.aheadAt(push, topic, group, queue)
			}
		}
	}
	return push
}

// push gives the master what is newer here. Nothing is given that lies beyond the
// end of the master's queue: it may have lost messages, and consumers would skip
// those that take their place.
func (f *follower) push(ctx context.Context, addr string, list []ahead) error {
	given := 0
	for i := range list[:min(len(list), maxPushes)] {
		a := &list[i]
		end := int64(0)
		err := f.call(ctx, func(ctx context.Context) (err error) {
			if end, err = f.client.MaxOffset(ctx, addr, a.topic, a.queue); err != nil || a.offset > end {
				return err
			}
			return f.client.MergeOffset(ctx, addr, a.group, a.topic, a.queue, a.offset, a.stamp)
		})
		if err != nil {
			return fmt.Errorf("giving the offset %d of group %s in queue %d of %s back: %w", a.offset, a.group, a.queue, a.topic, err)
		}
		if a.offset > end {
			continue
		}
		key := a.topic + "@" + a.group
		if f.seen[key] == nil {
			f.seen[key] = map[int32]int64{}
		}
		f.seen[key][a.queue] = a.offset
		given++
	}
	if given > 0 {
		f.log.Info("offsets that were committed at this slave were given to the master", zap.String("master", addr), zap.Int("offsets", given))
	}
	return nil
}
