package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], world{getenv: os.Getenv, now: time.Now, stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(code)
}
