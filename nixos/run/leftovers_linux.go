package run

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sweepTries and sweepPause bound the hunt for what a command left behind:
	// processes that go on starting others are met again and again.
	sweepTries = 500
	sweepPause = 10 * time.Millisecond
)

// orphans is who takes care of processes that lost their parent.
var orphans struct { //nolint:gochecknoglobals // a process has one kernel, which gives orphans to it
	mu      sync.Mutex
	adopted bool
	// leaving counts the commands under way that may leave something: what
	// they orphan is init's, so that no other command is taken for its parent.
	leaving int
	// started are the processes that Start started and nobody has waited for.
	started map[int]bool
}

// AdoptOrphans makes this process the parent of what its commands leave
// behind, instead of init: so nothing gets away by ending its parent, and
// whatever a command leaves is ended with it.
func AdoptOrphans() error {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	orphans.adopted = true
	return adopt()
}

// adopt tells the kernel whose orphans are. The caller holds the lock.
func adopt() error {
	if !orphans.adopted {
		return nil
	}
	var ours uintptr
	if orphans.leaving == 0 {
		ours = 1
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, ours, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	return nil
}

// leave counts a command that may leave something; -1 when it is over.
func leave(n int) error {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	orphans.leaving += n
	return adopt()
}

// launch starts a command, which is no orphan from its first moment on.
func launch(cmd *exec.Cmd) error {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	if orphans.started == nil {
		orphans.started = map[int]bool{}
	}
	orphans.started[cmd.Process.Pid] = true
	return nil
}

// ended says that a command was waited for.
func ended(pid int) {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	delete(orphans.started, pid)
}

// family returns the processes below this one. A command's own are those that
// were not there before it.
func family() map[Identity]bool {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	if !orphans.adopted {
		return nil
	}
	all := map[Identity]bool{}
	for _, m := range descendants(os.Getpid()) {
		all[m.identity()] = true
	}
	return all
}

// newOrphans returns the orphans that are not in before, with what is below
// them. What is of this process's own session was started by something else
// than this package, such as the AWS SDK's credential_process.
func newOrphans(before map[Identity]bool) (list []member) {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	if before == nil {
		return nil
	}
	own, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	now := processes()
	for _, m := range now[os.Getpid()] {
		if m.zombie && m.session != own && !orphans.started[m.pid] {
			_, _ = syscall.Wait4(m.pid, nil, syscall.WNOHANG, nil) // init would have reaped it
			continue
		}
		if m.session != own && !orphans.started[m.pid] && !before[m.identity()] {
			list = append(append(list, m), now.below(m.pid)...)
		}
	}
	return list
}

// sweep ends the members of a command, and the orphans that were not there
// before it.
func sweep(members []member, before map[Identity]bool) {
	for range sweepTries {
		left := 0
		for _, m := range slices.Concat(members, newOrphans(before)) {
			now, ok := m.now()
			switch {
			case !ok:
			case !now.zombie:
				m.kill()
				left++
			case now.parent == os.Getpid():
				_, _ = syscall.Wait4(m.pid, nil, syscall.WNOHANG, nil) // it may be reaped already
			}
		}
		if left == 0 {
			return
		}
		time.Sleep(sweepPause)
	}
}
