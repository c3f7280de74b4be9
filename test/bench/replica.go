package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// follower starts a slave of m on processor 1, beside the generator, as the limit
// probe does. by is a command that starts it, none: directly.
func (p *plan) follower(ctx context.Context, m *process, by ...string) (*process, error) {
	return p.brokerOn(ctx, append([]string{"1"}, by...), "gomq", "brokerRole=SLAVE", "brokerId=1", "flushDiskType=ASYNC_FLUSH",
		"haMasterAddress="+net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port+1)))
}

// pair starts a SYNC_MASTER and its slave, and waits until it counts.
func (p *plan) pair(ctx context.Context, flush string) (m, s *process, err error) {
	if m, err = p.broker(ctx, "gomq", "brokerRole=SYNC_MASTER", "haPeers=127.0.0.1", "flushDiskType="+flush); err != nil {
		return nil, nil, err
	}
	if s, err = p.follower(ctx, m); err != nil {
		m.stop()
		return nil, nil, err
	}
	for end := time.Now().Add(30 * time.Second); ; wait(ctx, 20*time.Millisecond) {
		v, err := m.metric("gomq_ha_in_sync_replicas")
		if err == nil && v == 1 {
			return m, s, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			s.stop()
			m.stop()
			return nil, nil, fmt.Errorf("the slave does not follow: %v, %w", v, err)
		}
	}
}

// replicate is SYNC_MASTER with a slave, beside the same without one, in the same
// rounds; SEND_OK is all that counts as an answer.
func (p *plan) replicate(ctx context.Context) error {
	type rival struct {
		name   string
		b      *process
		shapes []shape
	}
	var rivals []rival
	defer func() {
		for _, r := range rivals {
			r.b.stop()
		}
	}()
	all, two := []shape{{64, 1, false}, {8, 32, false}, {256, 1, false}, {1, 1, false}}, []shape{{64, 1, false}, {1, 64, false}}
	for _, kind := range []struct {
		flush  string
		shapes []shape
	}{{"ASYNC_FLUSH", all}, {"SYNC_FLUSH", two}} {
		alone, err := p.broker(ctx, "gomq", "flushDiskType="+kind.flush)
		if err != nil {
			return err
		}
		rivals = append(rivals, rival{kind.flush + ", ASYNC_MASTER alone ", alone, kind.shapes})
		m, s, err := p.pair(ctx, kind.flush)
		if err != nil {
			return err
		}
		defer s.stop()
		rivals = append(rivals, rival{kind.flush + ", SYNC_MASTER with a slave ", m, kind.shapes})
	}
	for _, r := range rivals {
		if err := p.load(ctx, r.b, r.shapes[0], 2*time.Second, nil); err != nil {
			return err
		}
	}
	for range p.rounds {
		if err := p.limits(ctx, `ack (async|replica|sync)$`, "replicate", "-dir", p.dir); err != nil {
			return err
		}
		for i := range all {
			for _, r := range rivals {
				if i >= len(r.shapes) {
					continue
				}
				if err := p.load(ctx, r.b, r.shapes[i], p.dur, p.table.row(r.name+r.shapes[i].String())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// catchup is how fast a slave without anything gets its master's log while
// producers send a quarter of what the master takes of them, and what that costs them.
// They write each message by itself, as clients do, in both.
func (p *plan) catchup(ctx context.Context) error {
	m, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer m.stop()
	producers := shape{8, 32, true}
	most := &row{values: map[string][]float64{}}
	size := 0.0
	for size < max(1<<30, 300e6*p.dur.Seconds()) { // more than a slave gets in that time
		if err := p.load(ctx, m, producers, time.Second, most); err != nil {
			return err
		}
		if size, err = m.metric(logEnd); err != nil {
			return err
		}
	}
	quarter := []string{"--warm", "500ms", "--rate", fmt.Sprint(int(median(most.values[rate]) / 4))}
	alone, beside := p.table.row("producers at a quarter of the maximum, alone"), p.table.row("producers at a quarter, while a slave catches up")
	for range p.rounds {
		wait(ctx, 5*time.Second) // a hypervisor takes back the memory of the files that were just removed
		if err := p.load(ctx, m, producers, p.dur, alone, quarter...); err != nil {
			return err
		}
		before, err := m.metric(logEnd)
		if err != nil {
			return err
		}
		sent := make(chan error, 1)
		go func() { sent <- p.load(ctx, m, producers, p.dur, beside, quarter...) }()
		if err := p.catchUp(ctx, m, before, sent); err != nil {
			return err
		}
	}
	return nil
}

// logEnd is the metric of the end of a broker's log.
const logEnd = "gomq_store_log_appended_offset_bytes"

// catchUp starts a slave when the log of m has grown beyond before, measures how much
// it has got when the producers have sent, and waits until it has what there was when
// it started.
func (p *plan) catchUp(ctx context.Context, m *process, before float64, sent <-chan error) error {
	size := before
	for end := time.Now().Add(time.Minute); size == before; wait(ctx, 10*time.Millisecond) {
		var err error
		if size, err = m.metric(logEnd); err != nil || ctx.Err() != nil || time.Now().After(end) {
			return errors.Join(fmt.Errorf("the producers send nothing: %w", err), <-sent)
		}
	}
	// It stands for a slave on a host of its own: the generator's processor is its when
	// the generator does not want it.
	s, err := p.follower(ctx, m, "nice", "-n", "19")
	if err != nil {
		return errors.Join(err, <-sent)
	}
	defer s.stop()
	// Nobody is asked meanwhile: to answer takes the processors of those who are measured.
	if err := <-sent; err != nil {
		return err
	}
	have, err := s.metric(logEnd)
	if err != nil {
		return err
	}
	p.table.row("a new slave's catch-up beside them").add(mbs, have/1e6/time.Since(s.began).Seconds())
	for ; have < size; wait(ctx, 100*time.Millisecond) {
		if have, err = s.metric(logEnd); err != nil || ctx.Err() != nil || time.Since(s.began) > 5*time.Minute {
			return fmt.Errorf("the slave has %.0f of %.0f bytes: %w", have, size, err)
		}
	}
	return nil
}
