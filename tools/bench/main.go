// Bench measures this machine and writes docs/performance.md: go run . FILE.
// It needs root for nothing, the tools of `make tools`, awscli, tar and zstd.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bench FILE")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// section measures something and describes it.
type section func(ctx context.Context, b *bench) (string, error)

func run(ctx context.Context, file string) (err error) {
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var report strings.Builder
	for _, s := range []section{machine, archives, idle, requests, overview, programs} {
		text, err := s(ctx, b)
		if err != nil {
			return err
		}
		report.WriteString(text + "\n")
		fmt.Print(text + "\n")
	}
	return os.WriteFile(file, []byte(strings.TrimSpace(report.String())+"\n"), 0o644) //nolint:gosec // for everybody to read
}
