package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// operation is a system call that changes files, or starts a program.
type operation struct {
	call string // create, write, fsync, rename, remove, exec
	path string
	to   string // of a rename
	data string // of a write
}

// trace runs one pass of the agent and returns what it did, in order.
func (s *site) trace(code int, host string) []operation {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), commandLimit)
	defer cancel()
	log := s.path("trace")
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-y", "-x", "-s", "1000000", "-e", "signal=none",
		"-e", "trace=openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlinkat,execve", "-o", log,
		filepath.Join(bin, "npcnix-reconciler"), "--once", "--host", host, "--root", s.path(host))
	cmd.Env, cmd.Dir = s.env, s.dir
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("agent: exit code %d, want %d (%v)\n%s", got, code, err, out)
	}
	f, err := os.Open(log)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	return parseTrace(f)
}

// calls are the patterns of strace's lines that tell of an operation, and what
// is made of what they found.
var calls = []struct {
	name    string
	pattern *regexp.Regexp
	make    func(found []string) operation
}{
	{"openat", regexp.MustCompile(`^openat\([^,]*, "([^"]*)", [^,)]*O_CREAT`), func(f []string) operation { return operation{call: "create", path: f[1]} }},
	{"write", regexp.MustCompile(`^write\(\d+<([^>]*)>, ("(?:[^"\\]|\\.)*")`), func(f []string) operation { return operation{call: "write", path: f[1], data: unquote(f[2])} }},
	{"pwrite64", regexp.MustCompile(`^pwrite64\(\d+<([^>]*)>, ("(?:[^"\\]|\\.)*")`), func(f []string) operation { return operation{call: "write", path: f[1], data: unquote(f[2])} }},
	{"fsync", regexp.MustCompile(`^fsync\(\d+<([^>]*)>`), func(f []string) operation { return operation{call: "fsync", path: f[1]} }},
	{"fdatasync", regexp.MustCompile(`^fdatasync\(\d+<([^>]*)>`), func(f []string) operation { return operation{call: "fsync", path: f[1]} }},
	{"rename", regexp.MustCompile(`^rename\w*\((?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]*)", (?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]*)"`), func(f []string) operation { return operation{call: "rename", path: f[1], to: f[2]} }},
	{"unlinkat", regexp.MustCompile(`^unlinkat\((?:AT_FDCWD|\d+)(?:<([^>]*)>)?, "([^"]*)"`), func(f []string) operation { return operation{call: "remove", path: absolute(f[1], f[2])} }},
	{"execve", regexp.MustCompile(`^execve\("([^"]*)", \[([^\]]*)`), func(f []string) operation { return operation{call: "exec", path: f[1], to: f[2]} }},
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// unquote reads a string as strace writes it, which is as C does.
func unquote(s string) string {
	text, err := strconv.Unquote(s)
	if err != nil {
		return s // of another program than the agent
	}
	return text
}

// parseTrace reads strace's lines; a call that another process's cut in two is joined.
func parseTrace(f *os.File) (operations []operation) {
	begun := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		pid, call, _ := strings.Cut(lines.Text(), " ")
		call = strings.TrimSpace(call)
		if head, cut := strings.CutSuffix(call, "<unfinished ...>"); cut {
			begun[pid] = head
			continue
		}
		if _, tail, resumed := strings.Cut(call, "resumed>"); resumed {
			call = begun[pid] + tail
		}
		if strings.Contains(call, ") = -1") || strings.HasSuffix(call, "= ?") {
			continue
		}
		name, _, _ := strings.Cut(call, "(")
		for _, c := range calls {
			if c.name != name && (c.name != "rename" || !strings.HasPrefix(name, "rename")) {
				continue
			}
			if found := c.pattern.FindStringSubmatch(call); found != nil {
				operations = append(operations, c.make(found))
			}
		}
	}
	return operations
}

// replay cuts the power after each operation and says what could be lost: a
// state file that could be torn, or a program that was started while what the
// agent had written before it could still be lost.
func replay(operations []operation, state string) (faults []string) {
	kept := regexp.MustCompile(`^` + regexp.QuoteMeta(state) + `/(journal\.json|documents/[^/]*\.json|transactions/[^/]*/(plan\.json|committing|committed|rebooting|staged|last-resort|guarded|problem\.json|outcome\.json)|suspension\.json)$`)
	dirty := map[string]bool{}    // files with data that was written and not synced
	unsynced := map[string]bool{} // directories with a rename that was not synced
	versions := map[string]int{}  // of state files, to see that the trace has any
	for i, o := range operations {
		switch o.call {
		case "write":
			dirty[o.path] = true
		case "fsync", "fdatasync":
			delete(dirty, o.path)
			delete(unsynced, o.path)
		case "rename":
			if !kept.MatchString(o.to) {
				continue
			}
			versions[o.to]++
			if dirty[o.path] {
				faults = append(faults, fmt.Sprintf("%d: %s is renamed to %s before its data is synced: it could be torn", i, o.path, o.to))
			}
			unsynced[filepath.Dir(o.to)] = true
		case "exec":
			for dir := range unsynced {
				faults = append(faults, fmt.Sprintf("%d: %s %s begins while a rename in %s could be lost", i, o.path, o.to, dir))
			}
		}
	}
	for dir := range unsynced {
		faults = append(faults, "a rename in "+dir+" was never synced")
	}
	if versions[filepath.Join(state, "journal.json")] == 0 {
		faults = append(faults, "the journal was never written")
	}
	return faults
}

// without leaves out the operations of a kind: a mutation of what the agent did.
func without(operations []operation, out func(o operation) bool) (rest []operation) {
	for _, o := range operations {
		if !out(o) {
			rest = append(rest, o)
		}
	}
	return rest
}

// What the agent must remember survives a power cut at any moment: each state
// file is replaced by synced data, and its rename is synced before the act
// that it tells of. An agent that did not sync would be seen.
func TestStateSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	s.apply(spec("web-1"))
	s.publish(`{ motd = "one"; }`)
	state := s.path("web-1/var/lib/npcnix")
	for _, code := range []int{0, 3} {
		operations := s.trace(code, "web-1")
		t.Logf("%d operations", len(operations))
		for _, fault := range replay(operations, state) {
			t.Error(fault)
		}
		directory := func(o operation) bool { return !strings.HasSuffix(o.path, ".json") && filepath.Ext(o.path) == "" }
		for name, out := range map[string]func(o operation) bool{
			"no sync of the data":      func(o operation) bool { return o.call == "fsync" && !directory(o) },
			"no sync of the directory": func(o operation) bool { return o.call == "fsync" && directory(o) },
			"a rename before its sync": func(o operation) bool { return o.call == "fsync" },
		} {
			if len(replay(without(operations, out), state)) == 0 {
				t.Errorf("%s: nobody sees it", name)
			}
		}
		s.publish(`{ motd = "two"; activation = "exit 1"; }`) // which is taken back
	}
}
