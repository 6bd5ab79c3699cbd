package run

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// member is a process of a family, told from a later one of the same pid by
// its start time.
type member struct {
	pid, parent, session int
	started              string
	zombie               bool
}

// table holds the processes of one moment by their parents.
type table map[int][]member

func processes() table {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	children := table{}
	for _, path := range stats {
		if m, ok := readStat(path); ok {
			children[m.parent] = append(children[m.parent], m)
		}
	}
	return children
}

// below returns the processes below pid.
func (t table) below(pid int) []member {
	family := slices.Clone(t[pid])
	for i := 0; i < len(family); i++ {
		family = append(family, t[family[i].pid]...)
	}
	return family
}

// descendants returns the processes below pid as they are now.
func descendants(pid int) []member { return processes().below(pid) }

// readStat reads fields 1, 3, 4, 6 and 22 of /proc/<pid>/stat, see proc(5). The
// program's name, in parentheses, may hold anything.
func readStat(path string) (member, bool) {
	data, err := os.ReadFile(path)
	end := bytes.LastIndexByte(data, ')')
	if err != nil || end < 0 {
		return member{}, false
	}
	pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
	fields := bytes.Fields(data[end+1:])
	if err != nil || len(fields) < 20 {
		return member{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return member{}, false
	}
	session, err := strconv.Atoi(string(fields[3]))
	return member{pid: pid, parent: parent, session: session, started: string(fields[19]), zombie: fields[0][0] == 'Z'}, err == nil
}

// now returns the process as it is now; ok is false if it is gone.
func (m member) now() (now member, ok bool) {
	now, ok = readStat(filepath.Join("/proc", strconv.Itoa(m.pid), "stat"))
	return now, ok && now.started == m.started
}

func (m member) identity() Identity { return Identity{PID: m.pid, Started: m.started} }

func (m member) kill() {
	if _, ok := m.now(); ok {
		_ = syscall.Kill(m.pid, syscall.SIGKILL) // it may just have ended
	}
}

// identify reads a process's identity; a zombie has ended.
func identify(pid int) (Identity, bool) {
	m, ok := readStat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return m.identity(), ok && !m.zombie
}
