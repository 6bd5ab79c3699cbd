package codec_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

const minimal = `apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata:
  name: web-1
spec:
  remote: prod
`

func decodeSpec(data string) (*v1alpha1.HostSpec, error) {
	return codec.DecodeStrict[v1alpha1.HostSpec](codec.Document{Source: "web-1.yaml", Raw: []byte(data)}, v1alpha1.KindHostSpec)
}

func TestStrictDecodingTellsEveryFault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ data, want string }{
		"unknown field, near another": {minimal + "  orgin: Flake\n", `web-1.yaml:7: spec.orgin: unknown field (did you mean "origin"?)`},
		"unknown field, near nothing": {minimal + "  colour: red\n", `web-1.yaml:7: spec.colour: unknown field, expected one of flakeAttribute, healthChecks, maintenanceWindow, origin, pollInterval, rebuildPolicy, remote, suspend`},
		"wrong case":                  {strings.Replace(minimal, "remote:", "Remote:", 1), `web-1.yaml:6: spec.Remote: unknown field (did you mean "remote"?)`},
		"field of the wrong level":    {minimal + "  rebuildPolicy:\n    maxAttempts: 3\n", `web-1.yaml:8: spec.rebuildPolicy.maxAttempts: unknown field, expected one of `},
		"duplicate":                   {minimal + "  remote: x\n", "web-1.yaml:7: spec.remote: field is there twice"},
		"duplicate label":             {strings.Replace(minimal, "name: web-1", "name: web-1\n  labels: {a: b, a: c}", 1), "web-1.yaml:5: metadata.labels[a]: field is there twice"},
		"number for a string":         {strings.Replace(minimal, "prod", "123", 1), "web-1.yaml:6: spec.remote: expected a string (quote it), found 123"},
		"boolean for a string":        {strings.Replace(minimal, "prod", "on", 1), "web-1.yaml:6: spec.remote: expected a string (quote it), found true"},
		"mapping for a string":        {strings.Replace(minimal, "prod", "{a: b}", 1), "web-1.yaml:6: spec.remote: expected a string (quote it), found a mapping"},
		"string for a mapping":        {minimal + "  pollInterval: 5s\n", `web-1.yaml:7: spec.pollInterval: expected a mapping, found "5s"`},
		"string for a list":           {minimal + "  maintenanceWindow: {timeZone: UTC, gates: Build}\n", `web-1.yaml:7: spec.maintenanceWindow.gates: expected a list, found "Build"`},
		"days as a duration":          {minimal + "  pollInterval: {max: 7d}\n", `web-1.yaml:7: spec.pollInterval.max: "7d" is not a duration such as 90s, 15m or 168h`},
		"number as a duration":        {minimal + "  pollInterval: {max: 7}\n", `web-1.yaml:7: spec.pollInterval.max: expected a string, found 7`},
		"a size without unit":         {minimal + "  rebuildPolicy: {minFreeDisk: \"2048\"}\n", `web-1.yaml:7: spec.rebuildPolicy.minFreeDisk: "2048" is not a size such as 512MiB or 2GiB`},
		"a fraction of an attempt":    {minimal + "  rebuildPolicy: {retry: {maxAttempts: 1.5}}\n", `web-1.yaml:7: spec.rebuildPolicy.retry.maxAttempts: expected an integer, found 1.5`},
		"a time without zone":         {minimal + "  suspend: {until: \"2026-12-01T00:00:00\"}\n", `web-1.yaml:7: spec.suspend.until: "2026-12-01T00:00:00" is not an RFC 3339 time`},
		"another kind":                {strings.Replace(minimal, "HostSpec", "HostSpek", 1), `web-1.yaml:2: kind: found "HostSpek", expected HostSpec`},
		"another version":             {strings.Replace(minimal, "v1alpha1", "v9", 1), `web-1.yaml:1: apiVersion: found "npcnix.dev/v9", expected npcnix.dev/v1alpha1`},
		"no kind":                     {"metadata: {name: x}\n", "web-1.yaml:1: apiVersion: found nothing, expected npcnix.dev/v1alpha1\nweb-1.yaml:1: kind: found nothing, expected HostSpec"},
		"a list":                      {"- a\n", "web-1.yaml: expected a document with apiVersion, kind, metadata and spec, found a list"},
		"nothing":                     {"# only a comment\n", "web-1.yaml: the file is empty"},
		"malformed":                   {minimal + "  a: [\n", "web-1.yaml: "},
		"invalid value":               {minimal + "  flakeAttribute: \"a.b\"\n", `web-1.yaml:7: spec.flakeAttribute: Invalid value: "a.b": must be letters, digits`},
		"missing value":               {strings.Replace(minimal, "  remote: prod", "  origin: Auto", 1), "web-1.yaml:5: spec.remote: Required value"},
		"generation":                  {strings.Replace(minimal, "name: web-1", "name: web-1\n  generation: 3", 1), "web-1.yaml:5: metadata.generation: Forbidden: only a Remote has a generation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeSpec(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestAllFaultsOfAFileAreToldTogetherInTheirOrder(t *testing.T) {
	t.Parallel()
	_, err := decodeSpec(minimal + `  rebuildPolicy:
    mode: Swap
    timeouts: {build: 2 hours}
    retry: {maxAttempts: 0}
  orgin: x
  remote: twice
  pollInterval: {min: [], max: 1s}
`)
	want := `web-1.yaml:8: spec.rebuildPolicy.mode: Unsupported value
web-1.yaml:9: spec.rebuildPolicy.timeouts.build: "2 hours" is not a duration
web-1.yaml:10: spec.rebuildPolicy.retry.maxAttempts: Invalid value
web-1.yaml:11: spec.orgin: unknown field
web-1.yaml:12: spec.remote: field is there twice
web-1.yaml:13: spec.pollInterval.min: expected a string`
	var got []string
	for line := range strings.Lines(err.Error()) {
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	lines := strings.Split(want, "\n")
	if len(got) != len(lines) {
		t.Fatalf("%s", err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(got[i], line) {
			t.Errorf("%s, want %s", got[i], line)
		}
	}
}

func TestLinesAreThoseOfTheStream(t *testing.T) {
	t.Parallel()
	stream := "# first\n" + minimal + "---\n" + minimal + "  orgin: x\n---\n# nothing here\n--- \n" + minimal
	docs, err := codec.Split("all.yaml", []byte(stream))
	if err != nil || len(docs) != 3 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	_, err = codec.DecodeStrict[v1alpha1.HostSpec](docs[1], v1alpha1.KindHostSpec)
	if err == nil || !strings.HasPrefix(err.Error(), "all.yaml:15: spec.orgin") {
		t.Errorf("error %v", err)
	}
}

func TestEveryMarkerBeginsADocument(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]int{
		minimal: 1, "---\n" + minimal: 1, minimal + "--- # second\n" + minimal: 2, minimal + "---\r\n" + minimal: 2,
		minimal + "--- {a: b}\n": 2, minimal + "...\n" + minimal: 2, minimal + "...\n# end\n": 1, minimal + "---\tx\n": 2,
		minimal + "  text: |\n    ---\n    ...\n": 1, minimal + "#---\n": 1, "": 0,
	} {
		docs, err := codec.Split("s", []byte(stream))
		if err != nil || len(docs) != want {
			t.Errorf("%q has %d documents, want %d, %v", stream, len(docs), want, err)
		}
	}
}

func TestLenientDecodingIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	data := strings.Replace(minimal, "spec:", "Spec: {remote: other}\nspec:\n  newer: {a: 1}", 1)
	got, err := codec.DecodeLenient[v1alpha1.HostSpec](codec.Document{Raw: []byte(data)}, v1alpha1.KindHostSpec)
	if err != nil || got.Spec.Remote != "prod" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestBombsAreRefused(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "a%d: &a%d [*a%d%s]\n", i+1, i+1, i, strings.Repeat(fmt.Sprintf(",*a%d", i), 9))
	}
	for name, data := range map[string]string{
		"aliases": minimal + bomb.String(),
		"depth":   minimal + "  x: " + strings.Repeat("[", 100_000),
		"size":    minimal + strings.Repeat("#", codec.MaxDocumentSize),
	} {
		if _, err := decodeSpec(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDigestIsOfTheSpecAsWritten(t *testing.T) {
	t.Parallel()
	digest := func(data string) string {
		t.Helper()
		d, err := codec.SpecDigest(codec.Document{Raw: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(minimal)
	// {"remote":"prod"}
	if base != codec.Digest([]byte(`{"remote":"prod"}`)) {
		t.Errorf("digest %s", base)
	}
	same := "# comment\nkind: HostSpec\nspec: {remote: \"prod\"}\napiVersion: npcnix.dev/v1alpha1\nmetadata: {name: web-1, labels: {a: b}}\n"
	if digest(same) != base {
		t.Error("comments, order or metadata change the digest")
	}
	for name, data := range map[string]string{
		"another value":   strings.Replace(minimal, "prod", "test", 1),
		"a default":       minimal + "  origin: Auto\n",
		"unknown field":   minimal + "  newer: 1\n",
		"explicit absent": minimal + "  suspend: null\n",
	} {
		if digest(data) == base {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

// exampleOf decodes an example, and wants that it sets every field of its kind.
func exampleOf[T any](t *testing.T, file, kind string) {
	t.Helper()
	data, err := os.ReadFile("../../examples/documents/" + file)
	if err != nil {
		t.Fatal(err)
	}
	doc := codec.Document{Source: file, Raw: data}
	obj, err := codec.DecodeStrict[T](doc, kind)
	if err != nil {
		t.Fatal(err)
	}
	if missing := unset(reflect.ValueOf(obj).Elem(), ""); len(missing) > 0 {
		t.Errorf("%s does not show %v", file, missing)
	}
	encoded, err := codec.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	again, err := codec.DecodeStrict[T](codec.Document{Source: file, Raw: encoded}, kind)
	if err != nil || !reflect.DeepEqual(obj, again) {
		t.Errorf("%s does not survive encoding: %v\n%s", file, err, encoded)
	}
}

// unset lists the fields that no value of the example sets.
func unset(v reflect.Value, path string) []string {
	var missing []string
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return []string{path}
		}
		return unset(v.Elem(), path)
	case reflect.Slice:
		if v.IsNil() {
			return []string{path}
		}
		return nil // one entry need not show all fields
	case reflect.Struct:
		for f, value := range v.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Type.PkgPath() == "" || strings.Contains(f.Type.PkgPath(), "npcnix") {
				missing = append(missing, unset(value, path+"."+name)...)
			}
		}
		return missing
	case reflect.String, reflect.Map:
		if v.Len() == 0 {
			return []string{path}
		}
		return nil
	default:
		return nil // a number says something even if it is 0
	}
}

func TestExamplesAreComplete(t *testing.T) {
	t.Parallel()
	exampleOf[v1alpha1.HostSpec](t, "hostspec.yaml", v1alpha1.KindHostSpec)
	exampleOf[v1alpha1.Remote](t, "remote.yaml", v1alpha1.KindRemote)
	for file, decode := range map[string]func(codec.Document) error{
		"hostoverride.yaml": func(d codec.Document) error {
			_, err := codec.DecodeStrict[v1alpha1.HostOverride](d, v1alpha1.KindHostOverride)
			return err
		},
		"hoststatus.yaml": func(d codec.Document) error {
			_, err := codec.DecodeStrict[v1alpha1.HostStatus](d, v1alpha1.KindHostStatus)
			return err
		},
	} {
		data, err := os.ReadFile("../../examples/documents/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(codec.Document{Source: file, Raw: data}); err != nil {
			t.Error(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := codec.Split("f", data)
		if err != nil {
			return
		}
		for _, doc := range docs {
			obj, err := codec.DecodeStrict[v1alpha1.HostSpec](doc, v1alpha1.KindHostSpec)
			if err != nil {
				continue
			}
			encoded, err := codec.Encode(obj)
			if err != nil {
				t.Fatal(err)
			}
			again, err := codec.DecodeStrict[v1alpha1.HostSpec](codec.Document{Raw: encoded}, v1alpha1.KindHostSpec)
			if err != nil || !reflect.DeepEqual(obj, again) {
				t.Errorf("%v\n%s", err, encoded)
			}
		}
	})
}
