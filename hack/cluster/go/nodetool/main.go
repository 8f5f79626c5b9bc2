// Command nodetool is the one program of the node's own tiny image: the pause process of every pod
// sandbox, and a few verbs that the cluster's tests run in pods (the image has no shell).
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = "usage: nodetool pause | serve PORT | resolve NAME | get URL | eat MEBIBYTES | say WORD..."

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nodetool:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		args = []string{"pause"}
	}
	switch verb, rest := args[0], args[1:]; {
	case verb == "pause":
		return pause()
	case verb == "serve" && len(rest) == 1:
		return serve(rest[0])
	case verb == "resolve" && len(rest) == 1:
		return resolve(rest[0])
	case verb == "get" && len(rest) == 1:
		return get(rest[0])
	case verb == "eat" && len(rest) == 1:
		return eat(rest[0])
	case verb == "say":
		fmt.Println(strings.Join(rest, " "))
		return nil
	}
	return fmt.Errorf("%s", usage)
}

// pause holds the sandbox's namespaces until it is told to stop, and reaps the orphans of a pod that
// shares its process namespace.
func pause() error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return nil
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}

func serve(port string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	server := &http.Server{
		Addr:              ":" + port,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s\n", host, r.URL.Path)
		}),
	}
	go func() {
		<-stop.Done()
		_ = server.Close()
	}()
	fmt.Println("serving on port", port)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func resolve(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, " "))
	return nil
}

func get(url string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, io.LimitReader(response.Body, 1<<20)); err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}

// eat allocates and touches memory, to watch what an out-of-memory kill looks like from outside.
func eat(mebibytes string) error {
	count, err := strconv.Atoi(mebibytes)
	if err != nil {
		return err
	}
	held := make([][]byte, 0, count)
	for range count {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
	}
	fmt.Println("holding", len(held), "MiB")
	return pause()
}
