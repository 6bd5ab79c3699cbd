package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/store/s3/s3test"
)

// bench is what the sections measure with.
type bench struct {
	// dir is on a tmpfs, bin holds the programs, stripped and static.
	dir, bin string
	server   *s3test.Server
	env      []string
}

const bucket = "bench"

func newBench(ctx context.Context) (*bench, error) {
	dir, err := os.MkdirTemp("/dev/shm", "npcnix-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory on a tmpfs: %w", err)
	}
	b := &bench{dir: dir, bin: filepath.Join(dir, "bin")}
	if err := os.Mkdir(b.bin, 0o755); err != nil {
		return nil, err
	}
	for from, packages := range map[string][]string{"../..": {"./cmd/npcnix", "./cmd/npcnix-reconciler"}, ".": {"./bareloop"}} {
		args := append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", b.bin + "/"}, packages...)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = from, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %v: %w\n%s", packages, err, out)
		}
	}
	if b.server, err = s3test.Start(ctx); err != nil {
		return nil, err
	}
	b.env = append(append(os.Environ(), b.server.Env()...), "AWS_REGION="+s3test.Region, "AWS_DEFAULT_REGION="+s3test.Region, "HOME="+dir, "AWS_EC2_METADATA_DISABLED=true")
	return b, b.server.NewBucket(ctx, bucket)
}

func (b *bench) close() error { return errors.Join(b.server.Close(), os.RemoveAll(b.dir)) }

// output runs a program and returns what it printed.
func (b *bench) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = b.env, b.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %v: %w\n%s", name, args, err, &stderr)
	}
	return stdout.String(), nil
}

func (b *bench) program(name string) string { return filepath.Join(b.bin, name) }

// counter is a proxy that counts requests by method and status.
type counter struct {
	*httptest.Server

	mu    sync.Mutex
	count map[string]int
}

func newCounter(endpoint string) (*counter, error) {
	backend, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	c := &counter{count: map[string]int{}}
	c.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = backend.Scheme, backend.Host, p.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.count[fmt.Sprintf("%s %d", r.Request.Method, r.StatusCode)]++
			c.count[r.Request.Method]++
			return nil
		},
	})
	return c, nil
}

func (c *counter) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[what]
}

// figures are measurements of one thing.
type figures []float64

func (f figures) median() float64 {
	s := slices.Sorted(slices.Values(f))
	return s[len(s)/2]
}

// spread writes the median, and the least and the greatest.
func (f figures) spread(format string) string {
	return fmt.Sprintf(format+" ("+format+" … "+format+")", f.median(), slices.Min(f), slices.Max(f))
}

// timed returns how many seconds something takes.
func timed(do func() error) (float64, error) {
	start := time.Now()
	err := do()
	return time.Since(start).Seconds(), err
}

func machine(ctx context.Context, b *bench) (string, error) {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	model := "unknown processor"
	for line := range strings.Lines(string(cpu)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	versions := []string{runtime.Version()}
	for _, c := range [][]string{{"uname", "-sr"}, {"tar", "--version"}, {"zstd", "--version"}, {"aws", "--version"}} {
		out, err := b.output(ctx, c[0], c[1:]...)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(strings.Trim(out, "*\n "), "\n")
		versions = append(versions, line)
	}
	return fmt.Sprintf(`# Performance

Written by `+"`make bench`"+`; medians, with the least and the greatest in parentheses. What is compared was
measured in one run, in turns or at the same time. The targets are the project's own; the bare SDK loop is
`+"`tools/bench/bareloop`"+`.

%s, %d processors · %s
`, model, runtime.NumCPU(), strings.Join(versions, " · ")), nil
}

func programs(_ context.Context, b *bench) (string, error) {
	out := "## Programs\n\n| program, static and stripped | size |\n|---|---|\n"
	for _, name := range []string{"npcnix", "npcnix-reconciler", "bareloop"} {
		info, err := os.Stat(b.program(name))
		if err != nil {
			return "", err
		}
		out += fmt.Sprintf("| `%s` | %.2f MB |\n", name, float64(info.Size())/1e6)
	}
	return out, nil
}
