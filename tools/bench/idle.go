package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/s3/s3test"
)

const (
	windows = 5
	window  = 20 * time.Second
)

// watched is a process whose use of the machine is measured.
type watched struct {
	cmd     *exec.Cmd
	counter *counter
}

func (b *bench) watch(endpoint string, args func(endpoint string) []string) (*watched, error) {
	c, err := newCounter(endpoint)
	if err != nil {
		return nil, err
	}
	list := args(c.URL)
	cmd := exec.Command(list[0], list[1:]...)
	cmd.Env, cmd.Dir = b.env, b.dir
	return &watched{cmd, c}, cmd.Start()
}

func (w *watched) stop() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait() // it was killed
	w.counter.Close()
}

// cpu is the time that the process has had a processor, in milliseconds: the
// first number of each thread's schedstat.
func (w *watched) cpu() (total float64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", w.cmd.Process.Pid))
	for _, t := range threads {
		data, _ := os.ReadFile(t)
		if words := strings.Fields(string(data)); len(words) > 0 {
			ns, _ := strconv.ParseFloat(words[0], 64)
			total += ns / 1e6
		}
	}
	return total
}

// memory is what is resident of the process, in MB.
func (w *watched) memory() float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(data); m != nil {
		kb, _ := strconv.ParseFloat(string(m[1]), 64)
		return kb * 1024 / 1e6
	}
	return 0
}

const spec = `apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: web-1}
spec:
  remote: demo
  pollInterval: {min: 1s, max: 1s}
`

// ready publishes the example and makes web-1 Ready.
func (b *bench) ready(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(b.dir, "web-1.yaml"), []byte(spec), 0o644); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(b.dir, "flake"), os.DirFS("../../examples/flake")); err != nil {
		return err
	}
	address := b.server.URL(bucket, "fleet")
	_, pushed := b.output(ctx, b.program("npcnix"), "--store", address, "push", "flake", "--remote", "demo")
	_, applied := b.output(ctx, b.program("npcnix"), "--store", address, "apply", "-f", "web-1.yaml")
	_, agent := b.output(ctx, b.program("npcnix-reconciler"), "--store", address, "--host", "web-1", "--root", filepath.Join(b.dir, "web-1"), "--once")
	return errors.Join(pushed, applied, agent)
}

func idle(ctx context.Context, b *bench) (string, error) {
	if err := b.ready(ctx); err != nil {
		return "", err
	}
	agent, err := b.watch(b.server.Endpoint, func(endpoint string) []string {
		address := strings.Replace(b.server.URL(bucket, "fleet"), b.server.Endpoint, endpoint, 1)
		return []string{b.program("npcnix-reconciler"), "--store", address, "--host", "web-1", "--root", filepath.Join(b.dir, "web-1")}
	})
	if err != nil {
		return "", err
	}
	defer agent.stop()
	bare, err := b.watch(b.server.Endpoint, func(endpoint string) []string {
		return []string{b.program("bareloop"), bucket, endpoint, "fleet/" + store.HostSpecKey("web-1"), "fleet/" + store.OverrideKey("web-1"), "fleet/" + store.RemoteKey("demo")}
	})
	if err != nil {
		return "", err
	}
	defer bare.stop()
	time.Sleep(40 * time.Second) // the agent's first look is up to 30 s away
	var agentCPU, bareCPU, agentMemory, bareMemory figures
	for range windows {
		a, n := agent.cpu(), agent.counter.of("GET")
		o, m := bare.cpu(), bare.counter.of("GET")
		time.Sleep(window)
		agentCPU = append(agentCPU, (agent.cpu()-a)/float64(agent.counter.of("GET")-n))
		bareCPU = append(bareCPU, (bare.cpu()-o)/float64(bare.counter.of("GET")-m))
		agentMemory, bareMemory = append(agentMemory, agent.memory()), append(bareMemory, bare.memory())
	}
	if agent.counter.of("PUT") > 2 {
		return "", fmt.Errorf("the agent is not idle: %d PUTs", agent.counter.of("PUT"))
	}
	var head figures
	for range rounds {
		t, err := timed(func() error {
			_, err := b.output(ctx, "aws", "--endpoint-url", b.server.Endpoint, "--region", s3test.Region, "s3api", "head-object", "--bucket", bucket, "--key", "fleet/"+store.RemoteKey("demo"))
			return err
		})
		if err != nil {
			return "", err
		}
		head = append(head, t*1000)
	}
	return fmt.Sprintf("## Idle, three conditional GETs a second over loopback HTTP\n\n| | npcnix-reconciler | bare SDK loop | ratio | target |\n|---|---|---|---|---|\n"+
		"| processor time a GET | %s | %s | %.2f | ≤ 1.5 |\n| resident memory | %s | %s | %.2f | ≤ 1.5 |\n\nOne `aws s3api head-object`, as a script would ask, takes %s.\n",
		agentCPU.spread("%.2f ms"), bareCPU.spread("%.2f ms"), agentCPU.median()/bareCPU.median(),
		agentMemory.spread("%.1f MB"), bareMemory.spread("%.1f MB"), agentMemory.median()/bareMemory.median(), head.spread("%.0f ms")), nil
}
