package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store/s3/s3test"
)

// commandLimit bounds each command that a test runs.
const commandLimit = 2 * time.Minute

var (
	// bin is where both programs were built.
	bin     string
	server  *s3test.Server
	buckets atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	if !strings.Contains(os.Getenv("NIX_CONFIG"), "build-users-group") {
		return fail(errors.New("these tests run real Nix with the settings of the Makefile: use make test"))
	}
	dir, err := os.MkdirTemp("", "npcnix-e2e-")
	if err != nil {
		return fail(err)
	}
	bin = dir
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "../npcnix", "../npcnix-reconciler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("build the programs: %w\n%s", err, out))
	}
	if server, err = s3test.Start(context.Background()); err != nil {
		return fail(err)
	}
	code := m.Run()
	if err := errors.Join(server.Close(), os.RemoveAll(dir)); err != nil {
		return fail(err)
	}
	return code
}

// site is an operator's desk: a store, a flake under git, hosts below a directory.
type site struct {
	t     *testing.T
	dir   string
	store string
	env   []string
}

// stores are the kinds of store that the main job must work with.
func stores(t *testing.T) map[string]func(t *testing.T) string {
	t.Helper()
	return map[string]func(t *testing.T) string{
		"directory": func(t *testing.T) string {
			t.Helper()
			return "file://" + filepath.Join(t.TempDir(), "store")
		},
		"S3": func(t *testing.T) string {
			t.Helper()
			bucket := fmt.Sprintf("bucket-%d", buckets.Add(1))
			if err := server.NewBucket(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
			return server.URL(bucket, "fleet")
		},
	}
}

func newSite(t *testing.T, store string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), store: store}
	s.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "NPCNIX_STORE="+store, "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
	s.env = append(s.env, server.Env()...)
	if err := os.CopyFS(s.path("flake"), os.DirFS("../../examples/flake")); err != nil {
		t.Fatal(err)
	}
	s.git("init", "-q")
	s.commit("one")
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, data string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o750); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(data), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) git(args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "git", append([]string{"-C", s.path("flake")}, args...)...)
	cmd.Env = s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (s *site) commit(message string) {
	s.t.Helper()
	s.git("add", "-A")
	s.git("commit", "-q", "--allow-empty", "-m", message)
}

// publish describes web-1 in Nix, and publishes the flake as prod.
func (s *site) publish(nix string) {
	s.t.Helper()
	s.write("flake/hosts/web-1.nix", nix)
	s.commit("change web-1")
	s.npcnix(0, "push", s.path("flake"), "--remote", "prod", "--force")
}

// spec is the least HostSpec.
func spec(name string) string {
	return "apiVersion: npcnix.dev/v1alpha1\nkind: HostSpec\nmetadata: {name: " + name + "}\nspec:\n  remote: prod\n  healthChecks: {settle: 0s}\n"
}

func (s *site) apply(spec string) {
	s.t.Helper()
	s.write("spec.yaml", spec)
	s.npcnix(0, "apply", "-f", s.path("spec.yaml"))
}

type output struct{ stdout, stderr string }

// npcnix runs npcnix and wants that exit code.
func (s *site) npcnix(code int, args ...string) output {
	s.t.Helper()
	return s.run(code, "npcnix", args...)
}

// agent makes one pass of a host's agent and wants that exit code.
func (s *site) agent(code int, host string, args ...string) output {
	s.t.Helper()
	return s.run(code, "npcnix-reconciler", append([]string{"--once", "--host", host, "--root", s.path(host)}, args...)...)
}

func (s *site) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), args...)
	cmd.Env = s.env
	cmd.Dir = s.dir
	return cmd
}

func (s *site) run(code int, program string, args ...string) output {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), commandLimit)
	defer cancel()
	cmd := s.command(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("%s %v: exit code %d, want %d (%v)\n%s%s", program, args, got, code, err, &stdout, &stderr)
	}
	return output{stdout.String(), stderr.String()}
}

// rows returns the table of hosts without its header.
func (s *site) rows() map[string][]string {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(s.npcnix(0, "get", "hosts").stdout), "\n")
	if lines[0] != "NAME\tREADY\tREASON\tREMOTE\tGENERATION\tREVISION\tSEEN" {
		s.t.Errorf("header is %q", lines[0])
	}
	rows := map[string][]string{}
	for _, line := range lines[1:] {
		cells := strings.Split(line, "\t")
		rows[cells[0]] = cells[1:]
	}
	return rows
}

// want wants that a host is shown as ready, for a reason.
func (s *site) want(host, ready, reason string) {
	s.t.Helper()
	if row := s.rows()[host]; len(row) < 2 || row[0] != ready || row[1] != reason {
		s.t.Errorf("%s is shown as %v, want %s %s\n%s", host, row, ready, reason, s.npcnix(0, "describe", "host", host).stdout)
	}
}

// wantMessage wants a part of what describe says of web-1.
func (s *site) wantMessage(part string) {
	s.t.Helper()
	if out := s.npcnix(0, "describe", "host", "web-1").stdout; !strings.Contains(out, part) {
		s.t.Errorf("describe host web-1 does not say %q:\n%s", part, out)
	}
}

// eventually waits for a condition, within a minute.
func (s *site) eventually(what string, condition func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			s.t.Fatalf("waited a minute in vain: %s", what)
		case <-ticker.C:
		}
	}
}
