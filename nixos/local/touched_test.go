package local

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// However much a switch prints, it is known whether it had begun.
func TestWhatASwitchPrintedIsSearchedToItsBeginning(t *testing.T) {
	t.Parallel()
	const begun = "activating the configuration...\n"
	noise := strings.Repeat("waiting for the disk to settle\n", 10000)
	for text, want := range map[string]bool{
		"": false, noise: false, begun: true, begun + noise: true, noise + begun: true, noise + begun + noise: true,
		noise + "stopping the following units: sshd.service\n" + noise: true,
	} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.HalfReader(strings.NewReader(text))} {
			if got, err := says(r, "stopping the following units", "activating the configuration"); got != want || err != nil {
				t.Errorf("%d bytes: %v, %v, want %v", len(text), got, err, want)
			}
		}
	}
	if got, err := says(iotest.ErrReader(errors.New("no")), "x"); got || err == nil {
		t.Errorf("a reader that fails: %v, %v", got, err)
	}
	dir := t.TempDir()
	if touched(filepath.Join(dir, "output")) {
		t.Error("a switch that never started had begun")
	}
	if err := os.Mkdir(filepath.Join(dir, "output"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !touched(filepath.Join(dir, "output")) {
		t.Error("one whose output cannot be read had not begun")
	}
}
