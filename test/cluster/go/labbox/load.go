package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// A request that finds this many others waiting for their answer is not sent but counted: the load would no longer be
// what was asked for, and a dead server would fill the memory.
const maxInFlight = 4096

// summary is load's last line. Durations in milliseconds, from the connection's start (or the first byte written on a
// kept connection) to the last byte of the answer, of those that succeeded.
type summary struct {
	Event      string  `json:"event"`
	Sent       int     `json:"sent"`
	OK         int     `json:"ok"`
	Failed     int     `json:"failed"`
	Skipped    int     `json:"skipped"`
	New        int     `json:"new"`
	Kept       int     `json:"kept"`
	Dialled    int     `json:"dialled"`
	Seconds    float64 `json:"seconds"`
	P50Ms      float64 `json:"p50Ms"`
	P99Ms      float64 `json:"p99Ms"`
	MaxMs      float64 `json:"maxMs"`
	LateMaxMs  float64 `json:"lateMaxMs"`
	FailedNew  int     `json:"failedNew"`
	FailedKept int     `json:"failedKept"`
}

type loader struct {
	address string
	request []byte
	timeout time.Duration
	kept    chan *keptConnection

	lock      sync.Mutex
	durations []float64
	total     summary
}

// keptConnection is dialled at its first use, and anew after it failed.
type keptConnection struct {
	connection net.Conn
	reader     *bufio.Reader
}

// load sends requests by the clock, whether or not earlier ones were answered: -rate a second, the share -new of them on
// a new connection each, the others in turn on -connections kept ones. It never retries; every failure is a JSON line at
// once, the summary the last line. A kept connection that fails is one failure, and is dialled anew for its next request.
func load(args []string) int {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	rate := flags.Float64("rate", 100, "requests a second")
	share := flags.Float64("new", 0.5, "share of the requests that open a connection of their own, 0 to 1")
	connections := flags.Int("connections", 8, "kept connections")
	duration := flags.Duration("duration", time.Minute, "at most this long")
	timeout := flags.Duration("timeout", 5*time.Second, "for each request")
	flags.Parse(args)
	target, address, err := hostPort(flags.Arg(0))
	if err == nil && (*rate <= 0 || *share < 0 || *share > 1 || *connections < 1) {
		err = errors.New("-rate must be above 0, -new from 0 to 1, -connections at least 1")
	}
	if err != nil {
		return fail(err)
	}
	l := &loader{
		address: address,
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: labbox\r\n\r\n", target.RequestURI(), target.Host),
		timeout: *timeout,
		kept:    make(chan *keptConnection, *connections),
		total:   summary{Event: "summary"},
	}
	for range *connections {
		l.kept <- &keptConnection{}
	}
	l.run(*rate, *share, stopped(*duration))
	if l.total.Failed > 0 || l.total.Skipped > 0 {
		return 1
	}
	return 0
}

func (l *loader) run(rate, share float64, stop <-chan struct{}) {
	begin := time.Now()
	var waiting sync.WaitGroup
	places := make(chan struct{}, maxInFlight)
	printJSON(event{Event: "started"})
sending:
	for i := 0; ; i++ {
		due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		select {
		case <-stop:
			break sending
		case <-time.After(time.Until(due)):
		}
		l.total.LateMaxMs = max(l.total.LateMaxMs, milliseconds(time.Since(due)))
		// Spread evenly: request i is new when the sum of shares passes a whole number there.
		isNew := int(float64(i+1)*share) > int(float64(i)*share)
		select {
		case places <- struct{}{}:
		default:
			l.total.Skipped++
			continue
		}
		l.total.Sent++
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			defer func() { <-places }()
			l.one(isNew)
		}()
	}
	waiting.Wait()
	l.summarize(time.Since(begin))
}

func (l *loader) one(isNew bool) {
	if isNew {
		connection := &keptConnection{}
		l.send(connection, "new")
		connection.close()
		return
	}
	// All kept connections are busy: wait for one, but not for ever; the time spent is part of the request's.
	select {
	case connection := <-l.kept:
		l.send(connection, "kept")
		l.kept <- connection
	case <-time.After(l.timeout):
		l.record("kept", 0, "queue timeout", errors.New("no kept connection was free"))
	}
}

func (l *loader) send(c *keptConnection, name string) {
	begin := time.Now()
	deadline := begin.Add(l.timeout)
	if c.connection == nil {
		connection, err := net.DialTimeout("tcp", l.address, l.timeout)
		if err != nil {
			l.record(name, 0, failureKind("connect", err), err)
			return
		}
		l.lock.Lock()
		l.total.Dialled++
		l.lock.Unlock()
		c.connection, c.reader = connection, bufio.NewReader(connection)
	}
	c.connection.SetDeadline(deadline)
	kind, err := l.exchange(c)
	if err != nil {
		c.close()
	}
	l.record(name, milliseconds(time.Since(begin)), kind, err)
}

func (l *loader) exchange(c *keptConnection) (string, error) {
	if _, err := c.connection.Write(l.request); err != nil {
		return failureKind("write", err), err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return failureKind("read", err), err
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if err != nil {
		return failureKind("body", err), err
	}
	if response.StatusCode != http.StatusOK {
		return "status", errors.New(response.Status)
	}
	if response.Close {
		// Said by the server, after a whole answer: no failure, but the next request needs a new connection.
		c.close()
	}
	return "", nil
}

func (c *keptConnection) close() {
	if c.connection != nil {
		c.connection.Close()
		c.connection = nil
	}
}

func (l *loader) record(connection string, duration float64, kind string, err error) {
	if err != nil {
		printJSON(event{Event: "failed", Connection: connection, Kind: kind, Error: err.Error()})
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	isNew := connection == "new"
	if isNew {
		l.total.New++
	} else {
		l.total.Kept++
	}
	switch {
	case err == nil:
		l.total.OK++
		l.durations = append(l.durations, duration)
	case isNew:
		l.total.Failed++
		l.total.FailedNew++
	default:
		l.total.Failed++
		l.total.FailedKept++
	}
}

func (l *loader) summarize(elapsed time.Duration) {
	slices.Sort(l.durations)
	at := func(share float64) float64 {
		if len(l.durations) == 0 {
			return 0
		}
		return l.durations[int(share*float64(len(l.durations)-1))]
	}
	l.total.P50Ms, l.total.P99Ms, l.total.MaxMs = at(0.5), at(0.99), at(1)
	l.total.Seconds = elapsed.Seconds()
	output.Lock()
	defer output.Unlock()
	json.NewEncoder(os.Stdout).Encode(l.total)
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
