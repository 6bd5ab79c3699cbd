package run

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// member is a process of a family, told from a later one of the same pid by
// its start time.
type member struct {
	pid, parent int
	started     string
	zombie      bool
}

// descendants returns the processes below pid as they are now.
func descendants(pid int) []member {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	children := map[int][]member{}
	for _, path := range stats {
		if m, ok := readStat(path); ok {
			children[m.parent] = append(children[m.parent], m)
		}
	}
	family := children[pid]
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i].pid]...)
	}
	return family
}

// readStat reads fields 1, 3, 4 and 22 of /proc/<pid>/stat, see proc(5). The
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
	return member{pid: pid, parent: parent, started: string(fields[19]), zombie: fields[0][0] == 'Z'}, err == nil
}

func (m member) kill() {
	now, ok := readStat(filepath.Join("/proc", strconv.Itoa(m.pid), "stat"))
	if ok && now.started == m.started {
		_ = syscall.Kill(m.pid, syscall.SIGKILL) // it may just have ended
	}
}

// identify reads a process's identity; a zombie has ended.
func identify(pid int) (Identity, bool) {
	m, ok := readStat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return Identity{PID: m.pid, Started: m.started}, ok && !m.zombie
}
