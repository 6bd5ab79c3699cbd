package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// network is a bad network before the S3 server: toxiproxy.
type network struct {
	t   *testing.T
	api string
	// address is where the server is to be found behind it.
	address string
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	path, err := filepath.Abs("../../.cache/bin/toxiproxy")
	if err != nil {
		t.Fatal(err)
	}
	api := freeAddress(t)
	host, port, _ := strings.Cut(api, ":")
	cmd := exec.CommandContext(t.Context(), path, "-host", host, "-port", port)
	cmd.Env = []string{"LOG_LEVEL=error"}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start toxiproxy: %v (make tools builds it)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	n := &network{t: t, api: "http://" + api, address: freeAddress(t)}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range 500 {
		if response, err := http.Get(n.api + "/version"); err == nil { //nolint:noctx // loopback
			_ = response.Body.Close()
			break
		}
		<-ticker.C
	}
	n.post("/proxies", map[string]any{"name": "s3", "listen": n.address, "upstream": server.Host(), "enabled": true})
	return n
}

// post asks toxiproxy through its API.
func (n *network) post(path string, body any) {
	n.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, n.api+path, bytes.NewReader(data))
	if err != nil {
		n.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if closeErr := response.Body.Close(); err != nil || closeErr != nil || response.StatusCode >= http.StatusBadRequest {
		n.t.Fatalf("toxiproxy %s: %s %s %v %v", path, response.Status, answer, err, closeErr)
	}
}

// poison adds a toxic; both directions if stream is empty.
func (n *network) poison(kind, stream string, attributes map[string]any) {
	n.t.Helper()
	n.post("/proxies/s3/toxics", map[string]any{"name": kind + stream, "type": kind, "stream": stream, "attributes": attributes})
}

func (n *network) up(enabled bool) {
	n.t.Helper()
	n.post("/proxies/s3", map[string]any{"enabled": enabled})
}

// heal takes all toxics away.
func (n *network) heal() {
	n.t.Helper()
	n.post("/reset", nil)
}

// An agent lives through bad networks: through some it does its work, from the
// others it recovers by itself.
func TestBadNetworks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(n *network)
		// meanwhile is what the agent is waited for before all is well again;
		// nil if it gets its work done all the same.
		meanwhile func(agent *daemon) bool
	}{
		"latency": {func(n *network) { n.poison("latency", "downstream", map[string]any{"latency": 300, "jitter": 200}) }, nil},
		"a slow line": {func(n *network) {
			n.poison("bandwidth", "downstream", map[string]any{"rate": 8})
			n.poison("slicer", "downstream", map[string]any{"average_size": 64, "size_variation": 32, "delay": 1000})
		}, nil},
		"resets":               {func(n *network) { n.poison("reset_peer", "downstream", map[string]any{"timeout": 5}) }, complains},
		"a black hole":         {func(n *network) { n.poison("timeout", "upstream", map[string]any{"timeout": 0}) }, hangs},
		"answers that are cut": {func(n *network) { n.poison("limit_data", "downstream", map[string]any{"bytes": 700}) }, nil},
		"no network":           {func(n *network) { n.up(false) }, complains},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, stores(t)["S3"](t))
			s.apply(spec("web-1") + "  pollInterval: {min: 1s, max: 1s}\n")
			s.npcnix(0, "push", "flake", "--remote", "prod")
			n := newNetwork(t)
			agent := s.start("web-1", "--log-level", "debug", "--store", strings.Replace(s.store, server.Host(), n.address, 1))
			agent.look()
			s.eventually("the first generation", func() bool { return s.rows()["web-1"][3] == "1" && s.rows()["web-1"][0] == "True" })
			c.spoil(n)
			s.publish(`{ motd = "two"; }`)
			if c.meanwhile != nil {
				s.eventually("the fault", func() bool { return c.meanwhile(agent) })
				n.heal()
				n.up(true)
			}
			s.eventually("the second generation", func() bool { return s.rows()["web-1"][3] == "2" && s.rows()["web-1"][0] == "True" })
			agent.stop()
			if strings.Contains(agent.log(), "panic") {
				t.Error(agent.log())
			}
		})
	}
}

// complains reports whether the agent could not reach the store.
func complains(agent *daemon) bool { return strings.Contains(agent.log(), "Reconciling failed") }

// hangs reports whether the agent, which looks each second, has been silent
// for five: it waits for an answer.
func hangs(agent *daemon) bool {
	info, err := os.Stat(agent.logFile)
	return err == nil && time.Since(info.ModTime()) > 5*time.Second
}

// daemon is an agent that runs.
type daemon struct {
	*site

	cmd     *exec.Cmd
	logFile string
}

// start starts a host's agent; its first look is up to 30 s away.
func (s *site) start(host string, args ...string) *daemon {
	s.t.Helper()
	d := &daemon{site: s, logFile: s.path(host + ".log")}
	d.cmd = s.command(s.t.Context(), "npcnix-reconciler", append([]string{"--host", host, "--root", s.path(host)}, args...)...)
	file, err := os.Create(d.logFile)
	if err != nil {
		s.t.Fatal(err)
	}
	d.cmd.Stderr = file
	if err := d.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		s.t.Error(err)
	}
	s.eventually("the start", func() bool { return strings.Contains(d.log(), "Started") })
	return d
}

func (d *daemon) log() string {
	data, err := os.ReadFile(d.logFile)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(data)
}

// look makes the agent look now.
func (d *daemon) look() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
}

// stop stops the agent, which ends well.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("SIGTERM: %v\n%s", err, d.log())
	}
}
