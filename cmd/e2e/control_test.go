package e2e_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ask asks the running agent of web-1 and wants that exit code.
func (s *site) ask(code int, args ...string) output {
	s.t.Helper()
	return s.run(code, "npcnix-reconciler", append(args, "--root", s.path("web-1"))...)
}

// People on the host ask the agent over its socket, also while the store is away.
func TestPeopleOnTheHostAskTheAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	if out := s.ask(1, "status"); !strings.Contains(out.stderr, "it does not run; systemctl status npcnix-reconciler says why") {
		t.Errorf("without an agent: %s", out.stderr)
	}
	s.start("web-1") // before there is a store
	s.ask(0, "reconcile")
	s.eventually("it says that there is no store", func() bool { return strings.Contains(s.ask(0, "status").stdout, "BucketNotFound") })
	s.apply(spec("web-1"))
	s.publish(`{ motd = "one"; }`)
	s.ask(0, "reconcile")
	s.eventually("the host is ready", func() bool { return strings.Contains(s.ask(0, "status").stdout, "Ready:     True, UpToDate") })

	for wrong, says := range map[string]string{
		"suspend":                      "say why with --reason",
		"suspend --reason x --for -1h": "--for is less than nothing",
		"status -o yaml":               "-o is text or json",
		"resume now":                   `unexpected argument "now"`,
	} {
		if out := s.run(2, "npcnix-reconciler", strings.Fields(wrong)...); !strings.Contains(out.stderr, says) {
			t.Errorf("%s: %s", wrong, out.stderr)
		}
	}

	store := strings.TrimPrefix(s.store, "file://")
	if err := os.Rename(store, store+".away"); err != nil {
		t.Fatal(err)
	}
	if out := s.ask(0, "suspend", "--for", "2h", "--reason", "disk swap"); !strings.Contains(out.stdout, "Suspended here until ") {
		t.Errorf("suspend says %s", out.stdout)
	}
	var answer struct {
		Suspension struct{ Reason string }
		Status     struct{ Metadata struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(s.ask(0, "status", "-o", "json").stdout), &answer); err != nil || answer.Suspension.Reason != "disk swap" || answer.Status.Metadata.Name != "web-1" {
		t.Errorf("%+v %v", answer, err)
	}
	if err := os.Rename(store+".away", store); err != nil {
		t.Fatal(err)
	}
	s.publish(`{ motd = "two"; }`)
	if out := s.ask(1, "reconcile"); !strings.Contains(out.stderr, "this host is suspended here (disk swap), so nothing would happen; lift that first: npcnix-reconciler resume") {
		t.Errorf("reconcile says %s", out.stderr)
	}
	s.eventually("it says that it is suspended", func() bool {
		return strings.Contains(s.ask(0, "status").stdout, "Suspended on the host (disk swap)")
	})
	if out := s.ask(0, "resume"); !strings.Contains(out.stdout, "Not suspended here any more.") {
		t.Errorf("resume says %s", out.stdout)
	}
	s.eventually("the second system runs", func() bool {
		motd, err := os.ReadFile(s.path("web-1/etc/motd"))
		return err == nil && string(motd) == "two\n"
	})
	s.publish(`{ motd = "three"; activation = "[ -e ` + s.path("allowed") + ` ]"; }`)
	s.ask(0, "reconcile")
	s.eventually("it is in quarantine", func() bool { return strings.Contains(s.ask(0, "status").stdout, "Quarantined") })
	s.write("allowed", "")
	s.ask(0, "retry")
	s.eventually("the third system runs", func() bool { return strings.Contains(s.ask(0, "status").stdout, "Runs generation 3") })

	// From afar, who asks can wait for what comes of it.
	s.publish(`{ motd = "four"; }`)
	if out := s.npcnix(0, "reconcile", "web-1", "--wait", "--timeout", "1m"); !strings.Contains(out.stdout, "host/web-1 Ready is True (UpToDate): Runs generation 4") {
		t.Errorf("reconcile --wait says %s", out.stdout)
	}
	s.publish(`{ motd = "five"; activation = "false"; }`)
	if out := s.npcnix(6, "reconcile", "web-1", "--wait", "--timeout", "1m"); !strings.Contains(out.stdout, "host/web-1 Ready is False (Quarantined): ") || !strings.Contains(out.stderr, "hosts are not Ready: 1 of 1") {
		t.Errorf("reconcile --wait says %s%s", out.stdout, out.stderr)
	}

	socket := s.path("web-1/run/npcnix/control.sock")
	for path, mode := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, mode)
		}
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("POST /suspend HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("x", 9000))); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	s.ask(0, "status") // what makes no sense does no harm
}
