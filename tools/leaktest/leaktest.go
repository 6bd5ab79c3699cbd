package leaktest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/goleak"
)

// patience is how long something may take to end after the last test.
const patience = 5 * time.Second

// Main runs the tests, a *testing.M or what has one, and fails where something is left.
func Main(m interface{ Run() int }) {
	before := descriptors()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		if left := newDescriptors(before); len(left) > 0 && code == 0 {
			fmt.Fprintln(os.Stderr, "leaktest: descriptors are still open:", strings.Join(left, " "))
			code = 1
		}
		os.Exit(code) //nolint:forbidigo // what VerifyTestMain would do
	}))
}

// descriptors names what is open; empty where the system does not tell.
func descriptors() map[string]bool {
	open := map[string]bool{}
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return open
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			open[filepath.Base(link)+" "+target] = true
		}
	}
	return open
}

// newDescriptors waits for what was opened since to be closed.
func newDescriptors(before map[string]bool) (left []string) {
	ticker := time.NewTicker(patience / 100)
	defer ticker.Stop()
	for range 100 {
		left = left[:0]
		for name := range descriptors() {
			// The runtime and the test's own log keep these.
			if !before[name] && !strings.Contains(name, "anon_inode:") && !strings.Contains(name, "/proc/") && !strings.Contains(name, "testlog") {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			return nil
		}
		<-ticker.C
	}
	return left
}
