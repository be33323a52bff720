// Command labbox is the one image that the cluster's tests need: pause container, test servers, clients and a load
// generator, in one static file without a shell.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// Each command gets its arguments and returns the exit code.
var commands = map[string]func([]string) int{
	"cat":        cat,
	"dns":        dns,
	"get":        get,
	"hold":       hold,
	"load":       load,
	"marker":     marker,
	"namespaces": namespaces,
	"pause":      pause,
	"readlink":   readlink,
	"relay":      relay,
	"serve":      serve,
	"sleep":      sleep,
}

func main() {
	// containerd runs the image without arguments as the pause container.
	args := []string{"pause"}
	if len(os.Args) > 1 {
		args = os.Args[1:]
	}
	command := commands[args[0]]
	if command == nil {
		var names []string
		for name := range commands {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "labbox: no command %q; it has %s\n", args[0], strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(command(args[1:]))
}

// pause holds a pod's namespaces, and reaps orphans where the pod's containers share their process namespace.
func pause([]string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return 0
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return 0
}

// sleep takes a duration ("30s"); without one it sleeps until it is told to end.
func sleep(args []string) int {
	var wake <-chan time.Time
	if len(args) > 0 {
		duration, err := time.ParseDuration(args[0])
		if err != nil {
			return fail(err)
		}
		wake = time.After(duration)
	}
	select {
	case <-wake:
	case <-stopSignal():
	}
	return 0
}

func cat(args []string) int {
	for _, name := range args {
		bytes, err := os.ReadFile(name)
		if err != nil {
			return fail(err)
		}
		os.Stdout.Write(bytes)
	}
	return 0
}

func readlink(args []string) int {
	for _, name := range args {
		target, err := os.Readlink(name)
		if err != nil {
			return fail(err)
		}
		fmt.Println(target)
	}
	return 0
}

// NSFS_MAGIC of linux/magic.h: a file on it holds a namespace.
const nsfsMagic = 0x6e736673

// namespaces lists the files of a folder, "nsfs" behind those that are namespaces.
func namespaces(args []string) int {
	for _, folder := range args {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return fail(err)
		}
		for _, entry := range entries {
			kind := "file"
			var info syscall.Statfs_t
			if err := syscall.Statfs(filepath.Join(folder, entry.Name()), &info); err != nil {
				kind = err.Error()
			} else if info.Type == nsfsMagic {
				kind = "nsfs"
			}
			fmt.Println(entry.Name(), kind)
		}
	}
	return 0
}

// stopSignal is closed at the first SIGINT or SIGTERM.
func stopSignal() <-chan struct{} {
	stop := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		close(stop)
	}()
	return stop
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "labbox:", err)
	return 1
}
