package raw

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// version is what this client says it is: the ordinal of 4.9.8.
const version = 409

// Conn is a connection with any number of calls in flight.
type Conn struct {
	net.Conn
	// Binary makes requests carry the ROCKETMQ header instead of JSON.
	Binary bool
	// Limit is how long a call waits for its answer; 0 = 5 seconds.
	Limit time.Duration

	mu      sync.Mutex
	next    int32
	waiting map[int32]chan *Command
	err     error // why the connection ended
	writing sync.Mutex
	pushed  chan *Command
}

// ErrClosed is in the chain of every error that means "the connection is
// gone": nothing is known about the fate of the request.
var ErrClosed = errors.New("connection closed")

// ErrTimeout is returned when no answer came in time.
var ErrTimeout = errors.New("no answer in time")

// Dial connects to a broker or nameserver.
func Dial(addr string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return over(c), nil
}

// DialTLS connects to a broker or nameserver over TLS.
func DialTLS(addr string, cfg *tls.Config) (*Conn, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	return over(c), nil
}

func over(c net.Conn) *Conn {
	conn := &Conn{Conn: c, waiting: map[int32]chan *Command{}, pushed: make(chan *Command, 1024)}
	go conn.read()
	return conn
}

// Pushed delivers the requests that the server sends to this client. They are
// dropped when nobody takes them.
func (c *Conn) Pushed() <-chan *Command { return c.pushed }

func (c *Conn) read() {
	r := bufio.NewReaderSize(c.Conn, 64<<10)
	for {
		cmd, _, err := Read(r)
		if err != nil {
			c.fail(fmt.Errorf("%w: %v", ErrClosed, err))
			return
		}
		if cmd.Flag&FlagResponse == 0 {
			select {
			case c.pushed <- cmd:
			default:
			}
			continue
		}
		c.mu.Lock()
		ch := c.waiting[cmd.Opaque]
		delete(c.waiting, cmd.Opaque)
		c.mu.Unlock()
		if ch != nil {
			ch <- cmd
		}
	}
}

func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, ch := range c.waiting {
		close(ch)
		delete(c.waiting, id)
	}
	c.Conn.Close()
}

// Err says why the connection ended, or nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Call sends a request and waits for its answer, whatever code that has.
func (c *Conn) Call(code int, ext map[string]string, body []byte) (*Command, error) {
	wait, err := c.Go(code, ext, body)
	if err != nil {
		return nil, err
	}
	return wait()
}

// Go sends a request and returns a function that waits for its answer.
func (c *Conn) Go(code int, ext map[string]string, body []byte) (func() (*Command, error), error) {
	ch := make(chan *Command, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	c.mu.Unlock()

	cmd := &Command{Code: code, Language: "JAVA", Version: version, Opaque: id, Ext: ext, Serial: "JSON", Body: body}
	if err := c.send(cmd); err != nil {
		c.fail(fmt.Errorf("%w: %v", ErrClosed, err))
		return nil, c.Err()
	}
	return func() (*Command, error) { return c.await(id, ch) }, nil
}

func (c *Conn) await(id int32, ch chan *Command) (*Command, error) {
	limit := c.Limit
	if limit == 0 {
		limit = 5 * time.Second
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case cmd, ok := <-ch:
		if !ok {
			return nil, c.Err()
		}
		return cmd, nil
	case <-timer.C:
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		return nil, ErrTimeout
	}
}

// OneWay sends a request that is not answered.
func (c *Conn) OneWay(code int, ext map[string]string, body []byte) error {
	return c.send(&Command{Code: code, Language: "JAVA", Version: version, Flag: FlagOneWay, Ext: ext, Serial: "JSON", Body: body})
}

func (c *Conn) send(cmd *Command) error {
	b := cmd.Encode()
	if c.Binary {
		b = cmd.EncodeBinary()
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(b)
	return err
}
