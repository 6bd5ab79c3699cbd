package meta_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/npcnix/npcnix/apis/meta"
)

func TestScalarsSurviveJSON(t *testing.T) {
	t.Parallel()
	type all struct {
		T meta.Time     `json:"t"`
		D meta.Duration `json:"d"`
		S meta.ByteSize `json:"s"`
	}
	rapid.Check(t, func(t *rapid.T) {
		want := all{
			T: meta.NewTime(time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), 0)),
			D: meta.Duration{Duration: time.Duration(rapid.Int64().Draw(t, "nanoseconds"))},
			S: meta.ByteSize(rapid.Int64Range(0, 1<<50).Draw(t, "bytes")),
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got all
		if err := json.Unmarshal(data, &got); err != nil || !got.T.Equal(want.T.Time) || got.D != want.D || got.S != want.S {
			t.Fatalf("%+v became %s and %+v, %v", want, data, got, err)
		}
	})
}

func TestTimesAreInUTCAndZeroIsNull(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("", 3600)
	for want, in := range map[string]meta.Time{
		"null":                   {},
		`"2026-11-22T09:00:00Z"`: meta.NewTime(time.Date(2026, 11, 22, 10, 0, 0, 999, berlin)),
	} {
		if got, err := json.Marshal(in); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}

func TestSizesAreWrittenInTheirGreatestUnit(t *testing.T) {
	t.Parallel()
	for size, want := range map[meta.ByteSize]string{0: "0B", 1: "1B", 1024: "1KiB", 1025: "1025B", 512 << 20: "512MiB", 2 << 30: "2GiB"} {
		if got := size.String(); got != want {
			t.Errorf("%d is %s, want %s", int64(size), got, want)
		}
	}
}

func TestConditionsKeepTheirTransitionTime(t *testing.T) {
	t.Parallel()
	var list []meta.Condition
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	set := func(kind string, status meta.ConditionStatus, reason string, s int64) {
		meta.SetCondition(&list, meta.Condition{Type: kind, Status: status, Reason: reason}, at(s))
	}
	set("Ready", meta.False, "A", 1)
	set("Built", meta.True, "A", 2)
	set("Ready", meta.False, "B", 3) // the same status: another reason is no transition
	set("Stalled", meta.False, "A", 4)
	set("Ready", meta.True, "C", 5)
	set("Ready", meta.True, "D", 6)
	want := []meta.Condition{
		{Type: "Built", Status: meta.True, Reason: "A", LastTransitionTime: meta.NewTime(at(2))},
		{Type: "Ready", Status: meta.True, Reason: "D", LastTransitionTime: meta.NewTime(at(5))},
		{Type: "Stalled", Status: meta.False, Reason: "A", LastTransitionTime: meta.NewTime(at(4))},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if !meta.IsTrue(list, "Ready") || meta.IsTrue(list, "Stalled") || meta.FindCondition(list, "Absent") != nil {
		t.Error("finding is wrong")
	}
}

func TestMessagesAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		limit := rapid.IntRange(3, 40).Draw(t, "limit")
		for _, got := range []string{meta.Cut(s, limit), meta.CutFront(s, limit)} {
			if len(got) > limit || (utf8.ValidString(s) && !utf8.ValidString(got)) || (len(s) <= limit && got != s) {
				t.Fatalf("%q cut to %d is %q", s, limit, got)
			}
		}
	})
	long := strings.Repeat("x", 2000)
	var list []meta.Condition
	meta.SetCondition(&list, meta.Condition{Type: "A", Message: long}, time.Unix(0, 0))
	if len(list[0].Message) != meta.MaxMessage {
		t.Errorf("message has %d bytes", len(list[0].Message))
	}
}
