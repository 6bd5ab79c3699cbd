package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// operation is a system call that changes files, or starts a program.
type operation struct {
	call string // write, fsync, rename, exec
	path string
	to   string // of a rename
}

// trace runs one pass of the agent and returns what it did, in order.
func (s *site) trace(code int, host string) []operation {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), commandLimit)
	defer cancel()
	log := s.path("trace")
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-y", "-s", "300", "-e", "signal=none",
		"-e", "trace=write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,execve", "-o", log,
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

// parseTrace reads strace's lines; a call that another process's cut in two is joined.
func parseTrace(f *os.File) (operations []operation) {
	begun := map[string]string{}
	descriptor := regexp.MustCompile(`^(?:p?write(?:64)?|fsync|fdatasync)\(\d+<([^>]*)>`)
	renamed := regexp.MustCompile(`^rename\w*\((?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]*)", (?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]*)"`)
	executed := regexp.MustCompile(`^execve\("([^"]*)", \[([^\]]*)`)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
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
		switch name, _, _ := strings.Cut(call, "("); name {
		case "write", "pwrite64", "fsync", "fdatasync":
			if found := descriptor.FindStringSubmatch(call); found != nil {
				operations = append(operations, operation{call: strings.TrimPrefix(strings.TrimSuffix(name, "64"), "p"), path: found[1]})
			}
		case "rename", "renameat", "renameat2":
			if found := renamed.FindStringSubmatch(call); found != nil {
				operations = append(operations, operation{call: "rename", path: found[1], to: found[2]})
			}
		case "execve":
			if found := executed.FindStringSubmatch(call); found != nil {
				operations = append(operations, operation{call: "exec", path: found[1], to: found[2]})
			}
		}
	}
	return operations
}

// replay cuts the power after each operation and says what could be lost: a
// state file that could be torn, or a program that was started while what the
// agent had written before it could still be lost.
func replay(operations []operation, state string) (faults []string) {
	kept := regexp.MustCompile(`^` + regexp.QuoteMeta(state) + `/(journal\.json|documents/[^/]*\.json|transactions/[^/]*/(plan\.json|committing|committed|rebooting|problem\.json|outcome\.json))$`)
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
