package onhosts_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store/s3/s3test"
)

const (
	// gateway is this machine's address on the bridge of the hosts.
	gateway = "10.77.0.1"
	// execLimit bounds each command on a host.
	execLimit = 2 * time.Minute
)

// lab is where the hosts of these tests live.
type lab struct {
	dir      string // of the hosts
	root     string // of the module
	programs string // /opt/npcnix on the hosts: a directory for each version
	server   *s3test.Server
}

// theLab is made when the first test needs it, once for all.
var theLab = sync.OnceValues(newLab)

// TestMain ends the hosts and the server.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	code := m.Run()
	l, err := theLab()
	if err != nil {
		return code // the tests said so, if there were any
	}
	if err := l.close(); err != nil {
		fmt.Fprintln(os.Stderr, "onhosts:", err)
		return 1
	}
	return code
}

// needed says why hosts cannot be booted here, or "".
func needed() string {
	if os.Getuid() != 0 {
		return "root"
	}
	for _, program := range []string{"systemd-nspawn", "ip", "unshare", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		if _, err := os.Stat("../../../.cache/rootfs/" + suite + "/lab-init"); err != nil {
			return "the root file system of " + suite + ", which make e2e makes"
		}
	}
	return ""
}

func newLab() (*lab, error) {
	if os.Getenv("NPCNIX_E2E") == "" {
		return nil, errors.New("these tests boot systemd hosts: use make e2e")
	}
	if missing := needed(); missing != "" {
		return nil, fmt.Errorf("no systemd hosts can be booted here: this needs %s", missing)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "npcnix-lab-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, root: root, programs: filepath.Join(dir, "programs")}
	if err := l.build(); err != nil {
		return nil, err
	}
	if out, err := l.host(context.Background(), "network"); err != nil {
		return nil, fmt.Errorf("make network: %w\n%s", err, out)
	}
	l.server, err = s3test.StartOn(context.Background(), gateway)
	return l, err
}

// build builds the programs: two agents that differ, and one that crashes when
// it is started.
func (l *lab) build() error {
	v1, v2 := filepath.Join(l.programs, "v1"), filepath.Join(l.programs, "v2")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", v1+"/", "./cmd/npcnix", "./cmd/npcnix-reconciler")
	build.Dir, build.Env = l.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(v1, "npcnix-reconciler"))
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{
		v2:                                   append(program, "the second version"...), // which no loader minds
		filepath.Join(l.programs, "crashes"): []byte("#!/bin/sh\necho this version crashes >&2\nexit 1\n"),
	} {
		if err := errors.Join(os.MkdirAll(path, 0o755), os.WriteFile(filepath.Join(path, "npcnix-reconciler"), data, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// host runs tools/lab/host.sh.
func (l *lab) host(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(l.root, "tools/lab/host.sh"), args...)
	cmd.Env = append(os.Environ(), "LAB="+filepath.Join(l.dir, "hosts"), "PROGRAMS="+l.programs)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return out.String(), err
}

func (l *lab) close() error {
	_, err := l.host(context.Background(), "down-all")
	return errors.Join(err, l.server.Close(), os.RemoveAll(l.dir))
}

// machine is one host and its operator's desk.
type machine struct {
	t      *testing.T
	lab    *lab
	name   string
	remote string
	suite  string
	daemon bool
	dir    string // of the desk
	store  string
	gen    int
	limits string // of a policy; the usual ones where empty
}

// newMachine boots a host into its first system, which runs the agent.
func newMachine(t *testing.T, name, suite string, daemon bool) *machine {
	t.Helper()
	l, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	h := &machine{t: t, lab: l, name: name, remote: name, suite: suite, daemon: daemon, dir: t.TempDir()}
	if err := l.server.NewBucket(t.Context(), "bucket-"+name); err != nil {
		t.Fatal(err)
	}
	h.store = l.server.URL("bucket-"+name, "fleet")
	if err := os.CopyFS(filepath.Join(h.dir, "flake"), os.DirFS(filepath.Join(l.root, "tools/lab/flake"))); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"nixos/module.nix": "module.nix", "nixos/testdata/eval.nix": "eval.nix"} {
		data, err := os.ReadFile(filepath.Join(l.root, from))
		if err != nil {
			t.Fatal(err)
		}
		h.write("flake/"+to, string(data))
	}
	h.boot()
	return h
}

// neighbour boots another host of the same operator, with the same flake.
func (h *machine) neighbour(name string) *machine {
	h.t.Helper()
	other := *h
	other.name, other.gen = name, 0
	other.boot()
	return &other
}

func (h *machine) boot() {
	h.t.Helper()
	h.lifecycle("up", h.name, filepath.Join(h.lab.root, ".cache/rootfs", h.suite))
	h.lifecycle("wait", h.name, "60")
	h.install()
}

func (h *machine) write(name, data string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

// lifecycle runs host.sh and wants that it works.
func (h *machine) lifecycle(args ...string) {
	h.t.Helper()
	if out, err := h.lab.host(h.t.Context(), args...); err != nil {
		h.t.Fatalf("%s: %v: %v\n%s", h.name, args, err, out)
	}
}

// try runs a shell command on the host.
func (h *machine) try(command string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), execLimit)
	defer cancel()
	out, err := h.lab.host(ctx, "exec", h.name, "sh", "-c", command)
	return strings.TrimSpace(out), err
}

// sh runs a shell command on the host and wants that it works.
func (h *machine) sh(command string) string {
	h.t.Helper()
	out, err := h.try(command)
	if err != nil {
		h.t.Fatalf("%s: %s: %v\n%s\n%s", h.name, command, err, out, h.journal())
	}
	return out
}

// console is the end of what the machine printed while it booted: of one that
// cannot be entered nothing else is known.
func (h *machine) console() string {
	data, err := os.ReadFile(filepath.Join(h.lab.dir, "hosts", h.name, "console.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

// journal is the end of what the agent and its guards logged.
func (h *machine) journal() string {
	out, _ := h.try("journalctl --no-pager -o cat -n 40 -u npcnix-reconciler -u 'npcnix-guard-*'; ls -R /var/lib/npcnix/transactions | tail -20")
	return out
}

// npcnix runs the operator's program at the desk.
func (h *machine) npcnix(args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(h.lab.programs, "v1/npcnix"), args...)
	cmd.Env = append(append(os.Environ(), "NPCNIX_STORE="+h.store, "HOME="+h.dir, "XDG_CONFIG_HOME="+h.dir), h.lab.server.Env()...)
	cmd.Dir = h.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("npcnix %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// describe writes the next generation's host; what stands in extra comes over
// the usual attributes.
func (h *machine) describe(extra string) (release string) {
	h.t.Helper()
	h.gen++
	release = fmt.Sprintf("g%d", h.gen)
	daemon := ""
	if h.daemon {
		daemon = `"nix-daemon.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nExecStart=/usr/bin/nix --extra-experimental-features nix-command daemon\n"; };`
	}
	h.write("flake/hosts/"+h.name+".nix", fmt.Sprintf(`let base = {
  release = %q;
  agent = "/opt/npcnix/v1";
  activation = "ip link set host0 up; ip route replace default via 10.77.0.1";
  settings = { settings = { store = %q; host = %q; healthChecks.commands = { hang = [ "/bin/sleep" "600" ]; fork = [ "/bin/sh" "-c" "setsid sleep 600 & exit 1" ]; }; }; environmentFile = "/etc/npcnix-credentials"; };
  units = {
    "hello.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nExecStart=/bin/sh -c 'echo hello %s; exec sleep infinity'\n"; };
    %s
  };
};
extra = %s;
in base // extra base`, release, h.store, h.name, release, daemon, extra))
	return release
}

// publish publishes the next generation.
func (h *machine) publish(extra string) (release string) {
	h.t.Helper()
	release = h.describe(extra)
	h.npcnix("push", filepath.Join(h.dir, "flake"), "--remote", h.remote, "--force")
	return release
}

// spec applies the HostSpec with these fields of the policy, and after it.
func (h *machine) spec(policy, more string) {
	h.t.Helper()
	h.write("spec.yaml", fmt.Sprintf(`apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: %s}
spec:
  remote: %s
  pollInterval: {min: 1s, max: 2s}
  rebuildPolicy:
    timeouts: {%s}
    retry: {minBackoff: 1s, maxBackoff: 2s}
    drift: {grace: 2s}
%s
%s`, h.name, h.remote, cmp.Or(h.limits, "activate: 20s, confirm: 6s"), policy, more))
	h.npcnix("apply", "-f", filepath.Join(h.dir, "spec.yaml"))
}

const checks = "  healthChecks: {settle: 500ms}\n"

// install brings the host from a plain Debian to its first system, by hand.
func (h *machine) install() {
	h.t.Helper()
	release := h.describe("_: { }")
	archive := filepath.Join(h.dir, "flake.tar")
	if out, err := exec.CommandContext(h.t.Context(), "tar", "-C", filepath.Join(h.dir, "flake"), "-cf", archive, ".").CombinedOutput(); err != nil {
		h.t.Fatalf("tar: %v\n%s", err, out)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.lab.dir, "hosts", h.name, "root/flake.tar"), data, 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.sh("umask 077; printf '%s\\n' " + strings.Join(quoted(h.lab.server.Env()), " ") + " > /etc/npcnix-credentials")
	h.sh("mkdir -p /etc/nixos && tar -C /etc/nixos -xf /flake.tar && rm /flake.tar")
	h.sh(`cd /etc/nixos && t=$(nix build --json --no-link 'path:.#nixosConfigurations."` + h.name + `".config.system.build.toplevel' 2>/tmp/log | sed 's/.*"out":"\([^"]*\)".*/\1/') ; [ -n "$t" ] || { cat /tmp/log; exit 1; }
nix-env -p /nix/var/nix/profiles/system --set "$t" && "$t/bin/switch-to-configuration" boot`)
	h.reboot()
	h.eventually(release, release, release)
}

func quoted(list []string) []string {
	var q []string
	for _, s := range list {
		q = append(q, "'"+s+"'")
	}
	return q
}

func (h *machine) reboot() {
	h.t.Helper()
	boots := h.boots()
	_, _ = h.try("systemctl reboot") // the connection may end before the answer
	h.wait("the host reboots", 60*time.Second, func() bool { return h.boots() > boots })
	h.lifecycle("wait", h.name, "60")
}

func (h *machine) boots() string {
	h.t.Helper()
	out, err := h.lab.host(h.t.Context(), "boots", h.name)
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("%6s", strings.TrimSpace(out))
}

// powerCut ends the host at once and boots it again.
func (h *machine) powerCut() {
	h.t.Helper()
	h.lifecycle("crash", h.name)
	h.lifecycle("up", h.name, filepath.Join(h.lab.root, ".cache/rootfs", h.suite))
	h.lifecycle("wait", h.name, "60")
}

// state is what runs, is the profile's, and boots next: the releases, as the
// host's links say.
func (h *machine) state() string {
	out, err := h.try(`release() { cat "$1/nixos-version" 2>/dev/null || echo none; }
entry=$(sed -n 's/^default //p' /boot/loader/loader.conf)
init=$(sed -n 's/^options .*init=\([^ ]*\).*/\1/p' "/boot/loader/entries/$entry")
echo $(release /run/current-system) $(release /nix/var/nix/profiles/system) $(release "${init%/init}")`)
	if err != nil {
		return "unreachable"
	}
	return out
}

// eventually waits until the host is in a state, and nothing is under way.
func (h *machine) eventually(running, profile, boot string) {
	h.t.Helper()
	h.eventuallyWithin(60*time.Second, running, profile, boot)
}

func (h *machine) eventuallyWithin(limit time.Duration, running, profile, boot string) {
	h.t.Helper()
	want := running + " " + profile + " " + boot
	h.wait("the host is in the state "+want, limit, func() bool { return h.state() == want })
}

// ready waits until the operator sees that the host is Ready, or why not.
func (h *machine) ready(status, reason string) {
	h.t.Helper()
	h.wait(fmt.Sprintf("get hosts shows %s %s", status, reason), 60*time.Second, func() bool {
		for line := range strings.Lines(h.npcnix("get", "hosts")) {
			words := strings.Fields(line)
			if words[0] == h.name && len(words) > 4 {
				return words[1] == status && words[2] == reason && (status != "True" || reason == "BuiltOnly" || words[4] == h.generation())
			}
		}
		return false
	})
}

// generation is the remote's newest.
func (h *machine) generation() string {
	for line := range strings.Lines(h.npcnix("get", "remotes")) {
		if words := strings.Fields(line); words[0] == h.remote {
			return words[1]
		}
	}
	return "none"
}

func (h *machine) wait(what string, limit time.Duration, condition func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			h.t.Fatalf("%s: waited %s in vain: %s. It is in the state %s\n%s\n%s", h.name, limit, what, h.state(), h.npcnix("describe", "host", h.name), h.journal()+"\n"+h.console())
		case <-ticker.C:
		}
	}
}
