package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// buildNewer builds both programs with a field that this version does not know.
func buildNewer(t *testing.T) {
	t.Helper()
	source, err := filepath.Abs("../../apis/v1alpha1/hostspec.go")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(data), "type HostSpecSpec struct {\n", "type HostSpecSpec struct {\n\tFuture string `json:\"future,omitempty\"`\n", 1)
	if newer == string(data) {
		t.Fatal("HostSpecSpec is not where this test looks for it")
	}
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: dir + "/hostspec.go"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"hostspec.go": []byte(newer), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", dir+"/overlay.json", "-o", filepath.Join(bin, "newer")+"/", "../npcnix", "../npcnix-reconciler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the newer programs: %v\n%s", err, out)
	}
}

// host returns what get says of web-1.
func (s *site) host() v1alpha1.Host {
	s.t.Helper()
	var host v1alpha1.Host
	if err := json.Unmarshal([]byte(s.npcnix(0, "get", "host", "web-1", "-o", "json").stdout), &host); err != nil {
		s.t.Fatal(err)
	}
	return host
}

// An agent that does not know a field keeps the last good HostSpec in force and
// goes on following its remote, so that the agent which knows it can arrive.
func TestOlderAgentFollowsItsRemote(t *testing.T) {
	t.Parallel()
	buildNewer(t)
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	s.npcnix(0, "push", "flake", "--remote", "prod")
	s.apply(spec("web-1") + "  flakeAttribute: web-1\n")
	s.agent(0, "web-1")

	s.write("spec.yaml", spec("web-1")+"  future: now\n  flakeAttribute: web-2\n")
	wantStderr(s, s.npcnix(3, "apply", "-f", s.path("spec.yaml")), "spec.future: unknown field")
	s.run(0, "newer/npcnix", "apply", "-f", s.path("spec.yaml"))
	s.publish(`{ motd = "two"; }`)
	s.agent(3, "web-1")
	s.want("web-1", "False", "SpecInvalid")
	s.wantMessage("spec.future: unknown field")
	older := s.host().Status
	if a := older.LastAttempt; a.RemoteGeneration != 2 || a.Outcome != v1alpha1.OutcomeCommitted {
		t.Errorf("the remote was not followed: %+v", a)
	}
	if c := meta.FindCondition(older.Conditions, v1alpha1.ConditionSpecAccepted); c.Status != meta.False || older.Desired.FlakeAttribute != "web-1" {
		t.Errorf("accepted %+v, desired %+v", c, older.Desired)
	}
	s.publish(`{ motd = "three"; }`) // over a start without memory, too
	s.agent(3, "web-1")
	if a := s.host().Status.LastAttempt; a.RemoteGeneration != 3 || a.Outcome != v1alpha1.OutcomeCommitted {
		t.Errorf("the remote was not followed: %+v", a)
	}

	s.run(0, "newer/npcnix-reconciler", "--once", "--host", "web-1", "--root", s.path("web-1"))
	if newer := s.host().Status; newer.Desired.FlakeAttribute != "web-2" || !meta.IsTrue(newer.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("the newer agent: %+v", newer)
	}
}
