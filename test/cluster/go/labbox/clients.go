package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// get asks each URL on a connection of its own, or all of them one after the other on a kept one for each host, and prints
// status and body. The exit code is 1 when one gave no answer.
func get(args []string) int {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "for the whole request")
	header := flags.String("header", "", "one header, name: value")
	kept := flags.Bool("kept", false, "all on one connection")
	useHTTP2 := flags.Bool("http2", false, "HTTP/2 without TLS, by prior knowledge")
	flags.Parse(args)

	transport := &http.Transport{DisableKeepAlives: !*kept}
	if *useHTTP2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	client := http.Client{
		Timeout:       *timeout,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	code := 0
	for _, address := range flags.Args() {
		request, err := http.NewRequest("GET", address, nil)
		if err != nil {
			return fail(err)
		}
		if name, value, found := strings.Cut(*header, ":"); found {
			request.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
		}
		response, err := client.Do(request)
		if err != nil {
			code = fail(err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			code = fail(err)
			continue
		}
		fmt.Println(response.StatusCode, strings.TrimSpace(string(body)))
	}
	return code
}

// dns prints the addresses of a name, one a line, as the pod's resolver gives them.
func dns(args []string) int {
	flags := flag.NewFlagSet("dns", flag.ExitOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "for the whole look-up")
	flags.Parse(args)
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	for _, name := range flags.Args() {
		addresses, err := net.DefaultResolver.LookupHost(ctx, name)
		if err != nil {
			return fail(err)
		}
		for _, address := range addresses {
			fmt.Println(address)
		}
	}
	return 0
}

// marker sends a payload to tcp://HOST:PORT or posts it to http://…, waits for the echo and prints it.
func marker(args []string) int {
	flags := flag.NewFlagSet("marker", flag.ExitOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "for all of it")
	flags.Parse(args)
	if flags.NArg() != 2 {
		return fail(errors.New("usage: labbox marker [-timeout 5s] tcp://HOST:PORT|http://… PAYLOAD"))
	}
	target, payload := flags.Arg(0), flags.Arg(1)
	if address, found := strings.CutPrefix(target, "tcp://"); found {
		connection, err := net.DialTimeout("tcp", address, *timeout)
		if err != nil {
			return fail(err)
		}
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(*timeout))
		if _, err := io.WriteString(connection, payload); err != nil {
			return fail(err)
		}
		connection.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(connection)
		fmt.Println(string(answer))
		if err != nil {
			return fail(err)
		}
		if !strings.HasSuffix(string(answer), payload) {
			return fail(errors.New("the echo is not what was sent"))
		}
		return 0
	}
	client := http.Client{Timeout: *timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post(target, "text/plain", strings.NewReader(payload))
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	fmt.Println(response.StatusCode, strings.TrimSpace(string(answer)))
	if err != nil {
		return fail(err)
	}
	return 0
}

// hold keeps one TCP connection to an echo open, sends a line each interval and expects it back. JSON lines: "open",
// one for the end with how it came. The exit code is 0 when it was told to stop while the connection worked.
func hold(args []string) int {
	flags := flag.NewFlagSet("hold", flag.ExitOnError)
	interval := flags.Duration("interval", 100*time.Millisecond, "between two lines")
	timeout := flags.Duration("timeout", 5*time.Second, "for the connection and for each echo")
	duration := flags.Duration("duration", 10*time.Minute, "at most this long")
	flags.Parse(args)

	connection, err := net.DialTimeout("tcp", flags.Arg(0), *timeout)
	if err != nil {
		printJSON(event{Event: "failed", Kind: "connect", Error: err.Error()})
		return 1
	}
	defer connection.Close()
	reader := bufio.NewReader(connection)
	stop := stopped(*duration)
	for count := 0; ; count++ {
		connection.SetDeadline(time.Now().Add(*timeout))
		line := fmt.Sprintf("line %d\n", count)
		_, err := io.WriteString(connection, line)
		var answer string
		if err == nil {
			answer, err = reader.ReadString('\n')
		}
		if err == nil && answer != line {
			err = fmt.Errorf("sent %q, got back %q", line, answer)
		}
		if err != nil {
			printJSON(event{Event: "failed", Kind: failureKind("echo", err), Error: err.Error(), Count: count})
			return 1
		}
		if count == 0 {
			printJSON(event{Event: "open", Local: connection.LocalAddr().String()})
		}
		select {
		case <-stop:
			printJSON(event{Event: "stopped", Count: count + 1})
			return 0
		case <-time.After(*interval):
		}
	}
}

// event is one line of what hold and load print. Time is in milliseconds since the epoch.
type event struct {
	Event      string  `json:"event"`
	Time       float64 `json:"time"`
	Connection string  `json:"connection,omitempty"`
	Kind       string  `json:"kind,omitempty"`
	Error      string  `json:"error,omitempty"`
	Local      string  `json:"local,omitempty"`
	Count      int     `json:"count,omitempty"`
}

var output sync.Mutex

func printJSON(value event) {
	value.Time = float64(time.Now().UnixMicro()) / 1000
	output.Lock()
	defer output.Unlock()
	json.NewEncoder(os.Stdout).Encode(value)
}

// stopped is closed after the duration, at SIGINT or SIGTERM, and, where standard input is a pipe or a socket, when that
// ends: who started the command is gone then, or wants it to stop.
func stopped(duration time.Duration) <-chan struct{} {
	stop := make(chan struct{})
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }) }
	time.AfterFunc(duration, end)
	signals := stopSignal()
	go func() {
		<-signals
		end()
	}()
	if info, err := os.Stdin.Stat(); err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			end()
		}()
	}
	return stop
}

// failureKind names what failed: a time-out is one wherever it happens.
func failureKind(step string, err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return step + " timeout"
	}
	return step
}

func hostPort(address string) (*url.URL, string, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, "", err
	}
	if target.Scheme != "http" || target.Host == "" {
		return nil, "", fmt.Errorf("%q is no http:// URL", address)
	}
	if target.Port() == "" {
		return target, net.JoinHostPort(target.Hostname(), "80"), nil
	}
	return target, target.Host, nil
}
