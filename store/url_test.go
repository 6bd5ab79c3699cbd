package store_test

import (
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]store.Location{
		"file:///var/lib/fleet":      {Dir: "/var/lib/fleet"},
		"file:///a%20b/c/":           {Dir: "/a b/c"},
		"file://./rel":               {Dir: "rel"},
		"file://../up":               {Dir: "../up"},
		"file://.":                   {Dir: "."},
		"s3://bucket":                {Bucket: "bucket"},
		"s3://bucket/":               {Bucket: "bucket"},
		"s3://bucket/some/prefix":    {Bucket: "bucket", Prefix: "some/prefix/"},
		"s3://bucket/p/?region=eu-1": {Bucket: "bucket", Prefix: "p/", Region: "eu-1"},
		"s3://b/p?region=r&endpoint=http://127.0.0.1:7070&pathStyle=true": {
			Bucket: "b", Prefix: "p/", Region: "r", Endpoint: "http://127.0.0.1:7070", PathStyle: true,
		},
		"s3://b?endpoint=https%3A%2F%2Fs3.example.org": {Bucket: "b", Endpoint: "https://s3.example.org"},
	} {
		if got, err := store.ParseURL(raw); err != nil || got != want {
			t.Errorf("%s: %+v %v, want %+v", raw, got, err, want)
		}
	}
}

func TestMalformedURLsAreRefusedWithoutRepeatingThem(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "/hunter2", "hunter2", "http://hunter2", "file://hunter2", "file:///x?hunter2", "file:///%zzhunter2", "s3://", "s3:///hunter2",
		"s3://AKIA:hunter2@bucket/p", "s3://bucket:80/hunter2", "s3://bucket/#hunter2", "s3://bucket/../hunter2", "s3://bucket?hunter2=1",
		"s3://bucket?region=", "s3://bucket?region=a&region=hunter2", "s3://bucket?pathStyle=hunter2", "s3://bucket?endpoint=hunter2",
		"s3://bucket?endpoint=https://user:hunter2@host", "s3://bucket?endpoint=ftp://hunter2", "s3://bucket?%zzhunter2",
	} {
		if _, err := store.ParseURL(raw); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", raw, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("s3://bucket/prefix?region=eu-1")
	f.Add("file:///x")
	f.Fuzz(func(t *testing.T, raw string) {
		if loc, err := store.ParseURL(raw); err == nil && (loc.Dir == "") == (loc.Bucket == "") {
			t.Errorf("%q is %+v", raw, loc)
		}
	})
}

func TestKeysAreSpelledInOnePlace(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		store.HostSpecKey("web-1"):        "hosts/web-1.yaml",
		store.OverrideKey("web-1"):        "overrides/web-1.yaml",
		store.StatusKey("web-1"):          "statuses/web-1.yaml",
		store.RemoteKey("prod"):           "remotes/prod.yaml",
		store.HistoryKey("prod", 42):      "history/prod/0000000042.yaml",
		store.ArchiveKey("sha256:0123ab"): "archives/0123ab.tar.zst",
	} {
		if got != want || store.ValidateKey(got) != nil {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for key, want := range map[string]string{
		"hosts/web-1.yaml": "web-1", "hosts/a.b.yaml": "a.b", "hosts/x/web.yaml": "", "hosts/web.yml": "", "hosts/.yaml": "", "statuses/web.yaml": "",
	} {
		if got, ok := store.Name(store.HostSpecs, key); ok != (want != "") || (ok && got != want) {
			t.Errorf("%s is %q, %v", key, got, ok)
		}
	}
	for key, want := range map[string]int64{
		"history/prod/0000000042.yaml": 42, "history/prod/42.yaml": 0, "history/prod/x.yaml": 0, "history/other/0000000042.yaml": 0,
	} {
		if got, ok := store.Generation("prod", key); ok != (want != 0) || (ok && got != want) {
			t.Errorf("%s is %d, %v", key, got, ok)
		}
	}
}
