package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/store"
)

// logged is a store with a host of two attempts, each of which left its log.
func logged(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	put := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	attempt := func(slot int, text string) v1alpha1.Attempt {
		data := encoder.EncodeAll([]byte(text), nil)
		put(store.LogKey("web", slot), data)
		return v1alpha1.Attempt{ID: text[:1], Outcome: v1alpha1.OutcomeFailed, StartedAt: meta.NewTime(time.Now()), Log: &v1alpha1.AttemptLog{Slot: slot, Digest: codec.Digest(data)}}
	}
	last := attempt(1, "the second\n")
	status := &v1alpha1.HostStatus{
		TypeMeta: meta.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindHostStatus}, Metadata: meta.ObjectMeta{Name: "web"},
		Status: v1alpha1.HostStatusStatus{LastAttempt: &last, History: []v1alpha1.Attempt{{ID: "x", Outcome: v1alpha1.OutcomeBuilt}, attempt(0, "the first\n")}},
	}
	data, err := codec.Encode(status)
	if err != nil {
		t.Fatal(err)
	}
	put(store.StatusKey("web"), data)
	return dir
}

func TestLogs(t *testing.T) {
	t.Parallel()
	dir := logged(t)
	logs := func(args ...string) (code int, out, errs string) {
		var stdout, stderr bytes.Buffer
		c := &cli{out: &stdout, err: &stderr, getenv: func(string) string { return "" }, now: time.Now}
		code = c.run(t.Context(), append([]string{"logs", "--store", "file://" + dir}, args...))
		return code, stdout.String(), stderr.String()
	}
	for args, want := range map[string]string{"web": "the second\n", "host/web": "the second\n", "web -p": "the first\n"} {
		if code, out, errs := logs(strings.Fields(args)...); code != exitcode.OK || out != want || errs != "" {
			t.Errorf("logs %s: exit code %d, %q, %q", args, code, out, errs)
		}
	}
	if code, _, errs := logs("db"); code != exitcode.NotFound {
		t.Errorf("exit code %d, %q", code, errs)
	}
	if err := os.WriteFile(filepath.Join(dir, store.LogKey("web", 1)), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := logs("web"); code != exitcode.Conflict || out != "" || !strings.Contains(errs, "holds another attempt's log now") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
}
