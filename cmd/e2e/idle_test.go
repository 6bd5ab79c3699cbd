package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// recorder is a proxy before the S3 server that notes each request.
type recorder struct {
	mu       sync.Mutex
	requests []string
}

func (r *recorder) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// start starts the proxy; it keeps the Host header, which is signed.
func (r *recorder) start(t *testing.T) string {
	t.Helper()
	backend, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = backend.Scheme, backend.Host, p.In.Host
		},
		ModifyResponse: func(response *http.Response) error {
			conditional := ""
			if response.Request.Header.Get("If-None-Match") != "" {
				conditional = " conditional"
			}
			_, key, _ := strings.Cut(response.Request.URL.Path, "/fleet/")
			r.mu.Lock()
			defer r.mu.Unlock()
			r.requests = append(r.requests, fmt.Sprintf("%s %s%s %d", response.Request.Method, key, conditional, response.StatusCode))
			return nil
		},
	}
	frontend := httptest.NewServer(proxy)
	t.Cleanup(frontend.Close)
	return frontend.URL
}

// children returns what proc(5) says of the faults of children that were
// waited for: it grows with each process.
func children(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Fields(rest)[8] // cminflt
}

// Idle work is three conditional GETs and nothing else: no other request, no
// process, no file. The override that is not there has no ETag to name.
func TestIdleAgentMakesThreeRequestsAndNothingElse(t *testing.T) {
	t.Parallel()
	const looks = 5
	s := newSite(t, stores(t)["S3"](t))
	var r recorder
	s.npcnix(0, "push", "flake", "--remote", "prod")
	s.apply(spec("web-1") + `  pollInterval: {min: 1h, max: 2h}
  maintenanceWindow: {timeZone: Europe/Berlin, splay: 1h, allow: [{name: days, start: "00:00", duration: 24h}, {name: nights, start: "22:00", duration: 6h}]}
`)
	s.agent(0, "web-1")
	proxied := strings.Replace(s.store, server.Endpoint, r.start(t), 1)
	cmd := s.command(t.Context(), "npcnix-reconciler", "--host", "web-1", "--root", s.path("web-1"), "--store", proxied)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := []string{"GET hosts/web-1.yaml conditional 304", "GET overrides/web-1.yaml 404", "GET remotes/prod.yaml conditional 304"}
	s.eventually("the first look", func() bool { return len(r.list()) >= 4 }) // status, three documents, perhaps status
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.eventually("the second look", func() bool {
		list := r.list()
		return len(list) >= 7 && slices.Equal(list[len(list)-3:], want)
	})
	before, journal := children(t, cmd.Process.Pid), stat(t, s.path("web-1/var/lib/npcnix/journal.json"))
	first := len(r.list())
	for i := range looks {
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.eventually("a look", func() bool { return len(r.list()) >= first+3*(i+1) })
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	after := children(t, cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := r.list()[first:]; !slices.Equal(got, slices.Repeat(want, looks)) {
		t.Errorf("%d looks made these requests:\n%s", looks, strings.Join(got, "\n"))
	}
	if before != after || journal != stat(t, s.path("web-1/var/lib/npcnix/journal.json")) {
		t.Errorf("processes were started (%s, %s) or the journal was written", before, after)
	}
}

// stat names a version of a file.
func stat(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(info.ModTime(), info.Size())
}
