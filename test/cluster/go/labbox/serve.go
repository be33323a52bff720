package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// What the HTTP echo takes of a request's body, and what it may be asked to answer with, in bytes.
const (
	maxEchoBytes   = 64 << 10
	maxAnswerBytes = 64 << 20
)

// echo is what the HTTP server says about a request.
type echo struct {
	Pod      string      `json:"pod"`
	Node     string      `json:"node"`
	Method   string      `json:"method"`
	Path     string      `json:"path"`
	Host     string      `json:"host"`
	Protocol string      `json:"protocol"`
	Remote   string      `json:"remote"`
	Local    string      `json:"local"`
	Headers  http.Header `json:"headers"`
	Body     string      `json:"body,omitempty"`
}

// serve answers HTTP (1.1, and 2 by prior knowledge) with an echo, echoes TCP, and greets first on a further port; an
// empty address leaves one out. HTTP's query can ask for ?status=503, ?delay=200ms, ?bytes=100000 (that many instead of
// the echo).
func serve(args []string) int {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	httpAddress := flags.String("http", ":8080", "address of the HTTP echo")
	tcpAddress := flags.String("tcp", ":9000", "address of the TCP echo")
	greetAddress := flags.String("server-first", ":9001", "address of the TCP echo that writes a line first")
	quiet := flags.Bool("quiet", false, "no line for each request")
	flags.Parse(args)

	pod, _ := os.Hostname()
	node := os.Getenv("NODE_NAME")
	failures := make(chan error, 3)
	if *httpAddress != "" {
		// Not on the default mux, and with no time-outs of its own: tests hold connections for minutes.
		server := http.Server{Addr: *httpAddress, Handler: httpEcho(pod, node, *quiet), Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { failures <- server.ListenAndServe() }()
	}
	if *tcpAddress != "" {
		go func() { failures <- listenTCP(*tcpAddress, "") }()
	}
	if *greetAddress != "" {
		go func() { failures <- listenTCP(*greetAddress, "hello from "+pod+"\n") }()
	}
	fmt.Printf("serving as %s: http %s, tcp %s, server-first %s\n", pod, *httpAddress, *tcpAddress, *greetAddress)
	select {
	case err := <-failures:
		return fail(err)
	case <-stopSignal():
		return 0
	}
}

func httpEcho(pod, node string, quiet bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !quiet {
			fmt.Println(r.RemoteAddr, r.Method, r.URL)
		}
		body, _ := io.ReadAll(io.LimitReader(r.Body, maxEchoBytes))
		query := r.URL.Query()
		if delay, err := time.ParseDuration(query.Get("delay")); err == nil {
			time.Sleep(delay)
		}
		status := http.StatusOK
		if wanted, err := strconv.Atoi(query.Get("status")); err == nil && wanted >= 200 && wanted <= 599 {
			status = wanted
		}
		if count, err := strconv.Atoi(query.Get("bytes")); err == nil && count >= 0 && count <= maxAnswerBytes {
			w.WriteHeader(status)
			writeFiller(w, count)
			return
		}
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(echo{
			Pod: pod, Node: node, Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host, Protocol: r.Proto,
			Remote: r.RemoteAddr, Local: fmt.Sprint(local), Headers: r.Header, Body: string(body),
		})
	})
}

func writeFiller(w io.Writer, count int) {
	chunk := make([]byte, 16<<10)
	for count > 0 {
		n, err := w.Write(chunk[:min(count, len(chunk))])
		if err != nil {
			return
		}
		count -= n
	}
}

func listenTCP(address, greeting string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			if _, err := io.WriteString(connection, greeting); err == nil {
				io.Copy(connection, connection)
			}
		}()
	}
}
