package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// The main job: publish, declare, reconcile, see; and again with a change.
func TestMainJob(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mainJob(t, newSite(t, store(t)))
		})
	}
}

func mainJob(t *testing.T, s *site) {
	t.Helper()
	hosts := []string{"web-1", "web-2", "db-1"}
	if out := s.npcnix(0, "push", "flake", "--remote", "demo").stdout; !regexp.MustCompile(`^demo 1 sha256:[0-9a-f]{64} published\n$`).MatchString(out) {
		t.Errorf("push printed %q", out)
	}
	if out := s.npcnix(0, "push", "flake", "--remote", "demo").stdout; !regexp.MustCompile(`^demo 1 sha256:[0-9a-f]{64} unchanged\n$`).MatchString(out) {
		t.Errorf("second push printed %q", out)
	}
	examples, err := filepath.Abs("../../examples/hosts")
	if err != nil {
		t.Fatal(err)
	}
	s.npcnix(0, "apply", "-f", examples)
	for _, h := range hosts {
		s.want(h, "Unknown", "NoStatus")
		s.agent(0, h)
		s.want(h, "True", "UpToDate")
	}
	first := s.rows()["web-1"]
	if first[2] != "demo" || first[3] != "1" || len(first[4]) != 12 {
		t.Errorf("row is %v", first)
	}
	motd, err := os.ReadFile(s.path("web-1/etc/motd"))
	if err != nil || string(motd) != "web-1 at your service\n" {
		t.Errorf("motd is %q, %v", motd, err)
	}

	s.write("flake/hosts/web-1.nix", `{ motd = "changed"; }`)
	s.commit("two")
	s.npcnix(0, "push", "flake", "--remote", "demo")
	for _, h := range hosts {
		s.agent(0, h)
	}
	for name, row := range s.rows() {
		if row[0] != "True" || row[3] != "2" || row[4] == first[4] {
			t.Errorf("%s is shown as %v", name, row)
		}
	}
	if motd, err := os.ReadFile(s.path("web-1/etc/motd")); err != nil || string(motd) != "changed\n" {
		t.Errorf("motd is %q, %v", motd, err)
	}
	checkLinks(t, s)
	checkJSON(t, s)
}

// checkLinks judges a host from outside.
func checkLinks(t *testing.T, s *site) {
	t.Helper()
	running, err := filepath.EvalSymlinks(s.path("web-1/run/current-system"))
	if err != nil {
		t.Fatal(err)
	}
	profile, err := filepath.EvalSymlinks(s.path("web-1/nix/var/nix/profiles/system"))
	if err != nil || profile != running {
		t.Errorf("profile is %s, running is %s, %v", profile, running, err)
	}
	entries, err := filepath.Glob(s.path("web-1/boot/loader/entries/*"))
	if err != nil || len(entries) != 2 {
		t.Errorf("boot entries: %v %v", entries, err)
	}
	loader, err := os.ReadFile(s.path("web-1/boot/loader/loader.conf"))
	if err != nil || !bytes.Contains(loader, []byte("default nixos-generation-2.conf")) {
		t.Errorf("loader.conf: %s %v", loader, err)
	}
	// db-1 did not change, so nothing of it was activated a second time.
	if link, err := os.Readlink(s.path("db-1/nix/var/nix/profiles/system")); err != nil || link != "system-1-link" {
		t.Errorf("db-1's profile is %s %v", link, err)
	}
}

func checkJSON(t *testing.T, s *site) {
	t.Helper()
	var list v1alpha1.HostList
	if err := json.Unmarshal([]byte(s.npcnix(0, "get", "hosts", "-o", "json").stdout), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "HostList" || len(list.Items) != 3 || list.Items[0].Kind != "Host" || list.Items[0].Metadata.Name != "db-1" ||
		list.Items[0].Override != nil || list.Items[0].Status == nil || list.Items[0].LastSeen == nil || list.Items[0].Spec.Remote != "demo" {
		t.Errorf("list is %+v", list)
	}
	if out := s.npcnix(0, "get", "hosts", "-l", "role=web", "-o", "name").stdout; out != "host/web-1\nhost/web-2\n" {
		t.Errorf("selected %q", out)
	}
	if out := s.npcnix(0, "get", "remotes").stdout; !strings.HasPrefix(out, "NAME\tGENERATION\tREVISION\tPUBLISHED\ndemo\t2\t") {
		t.Errorf("remotes are %q", out)
	}
}

func TestDaemonFollowsItsRemoteUntilItIsStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	s.apply(spec("web-1") + "  pollInterval: {min: 1s, max: 60s}\n")
	s.npcnix(0, "push", "flake", "--remote", "prod")
	agent := s.start("web-1")
	agent.look()
	s.eventually("the first generation", func() bool { return s.rows()["web-1"][0] == "True" })
	s.publish(`{ motd = "two"; }`)
	wantStderr(s, s.agent(1, "web-1"), "another npcnix-reconciler works in this state directory")
	s.eventually("the second generation", func() bool { return s.rows()["web-1"][3] == "2" })
	agent.stop()
	for _, key := range []string{"host", "remote", "generation", "target", "action", "reason"} {
		if !strings.Contains(agent.log(), `"`+key+`":`) {
			t.Errorf("no %s in the log:\n%s", key, agent.log())
		}
	}
}

// Under --root only marked systems are activated, so that nobody switches
// their own machine by trying npcnix.
func TestUnmarkedSystemIsNeverExecutedBelowARoot(t *testing.T) {
	t.Parallel()
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	witness := s.path("witness")
	s.apply(spec("web-1"))
	s.publish(`{ demo = false; activation = "touch ` + witness + `"; }`)
	s.agent(3, "web-1")
	s.want("web-1", "False", "RootNotSupported")
	for _, path := range []string{witness, s.path("web-1/run/current-system"), s.path("web-1/nix/var/nix/profiles/system"), s.path("web-1/boot")} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", path, err)
		}
	}
	s.publish(`{ activation = "touch ` + witness + `"; }`)
	s.agent(0, "web-1")
	if _, err := os.Lstat(witness); err != nil {
		t.Errorf("a marked system was not executed: %v", err)
	}
}

// A copy of the files, as aws s3 sync makes it, is as good as apply.
func TestSyncedFilesAreAsGoodAsApplied(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	s := newSite(t, "file://"+dir)
	s.npcnix(0, "push", "flake", "--remote", "demo")
	if err := os.CopyFS(filepath.Join(dir, "hosts"), os.DirFS("../../examples/hosts")); err != nil {
		t.Fatal(err)
	}
	s.agent(0, "web-2")
	s.want("web-2", "True", "UpToDate")
	examples, err := filepath.Abs("../../examples/hosts")
	if err != nil {
		t.Fatal(err)
	}
	if out := s.npcnix(0, "apply", "-f", examples).stdout; strings.Count(out, "unchanged\n") != 3 {
		t.Errorf("apply after sync: %s", out)
	}
}
