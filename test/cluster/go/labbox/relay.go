package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// relay takes connections at one address and joins each to a new one to another: tcp:HOST:PORT or unix:PATH. Two of them
// with a Unix socket between lead from one network namespace into another without a link. With a third argument it
// writes the address that it listens at into that file.
func relay(args []string) int {
	if len(args) < 2 {
		return fail(errors.New("usage: labbox relay FROM TO [FILE]"))
	}
	network, address := split(args[0])
	if network == "unix" {
		os.Remove(address)
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return fail(err)
	}
	if len(args) > 2 {
		// Renamed into place, so that nobody reads half of it.
		if err := os.WriteFile(args[2]+".new", fmt.Append(nil, listener.Addr()), 0o600); err != nil {
			return fail(err)
		}
		if err := os.Rename(args[2]+".new", args[2]); err != nil {
			return fail(err)
		}
	}
	go func() {
		<-stopSignal()
		os.Exit(0)
	}()
	for {
		from, err := listener.Accept()
		if err != nil {
			return fail(err)
		}
		go join(from, args[1])
	}
}

func split(address string) (string, string) {
	network, rest, _ := strings.Cut(address, ":")
	return network, rest
}

func join(from net.Conn, target string) {
	defer from.Close()
	network, address := split(target)
	to, err := net.Dial(network, address)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{})
	go func() {
		copyHalf(to, from)
		close(done)
	}()
	copyHalf(from, to)
	<-done
}

// copyHalf passes the end of the stream on, and leaves the other direction open.
func copyHalf(to, from net.Conn) {
	io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}
