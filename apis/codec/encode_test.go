package codec_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	yamlv2 "go.yaml.in/yaml/v2"
	yamlv3 "go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/npcnix/npcnix/apis/codec"
)

// scalars draws strings that some YAML reader takes for something else, and
// arbitrary ones.
func scalars() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"", "y", "N", "yes", "No", "on", "OFF", "true", "False", "null", "~", "=", "<<", "-", "?", ":", "---", "...",
			"0o14", "014", "0x1F", "0b11", "1_000", "190:20:30", "12:30", "1e3", "1.5", ".5", "+.inf", "-.INF", ".nan", "+12e03", "08", "1.",
			"2001-12-14", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "2001-12-15 2:59:43.10",
			"a: b", "a #b", "#c", "- x", "{a}", "[a]", "!t", "&a", "*a", "|", ">", "%x", "@x", "`x", "\"q\"", "'q'",
			" lead", "trail ", "tab\t", "two\nlines", "two\nlines\n", "\n", "\nx", " \n x", "cr\r\n", "ü: 0x1", "\u0085", "\u2028", "\ufeffbom", "nul\x00", "esc\x1b[31m",
		}),
		rapid.StringMatching(`[-+]?[0-9._:xobeE]{1,8}`),
		rapid.StringMatching(`[-+]?[0-9.:]{1,4}( [-+0-9:.z]{1,6}){1,3}`),
		rapid.StringMatching(`[a-z "ü]{60,90}`), // what follows is folded
		rapid.String(),
	)
}

func TestEncodedStringsAreReadBackByEveryReader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{
			scalars().Draw(t, "key"): scalars().Draw(t, "value"),
			"list":                   scalars().Draw(t, "entry"),
		}
		data, err := codec.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		for name, unmarshal := range map[string]func([]byte, any) error{
			"YAML 1.1": yamlv2.Unmarshal,
			"YAML 1.2": func(b []byte, v any) error { return yamlv3.Unmarshal(b, v) },
		} {
			var got map[any]any // untyped: the reader decides what it sees
			if err := unmarshal(data, &got); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, data)
			}
			typed := map[string]string{}
			for k, v := range got {
				ks, kok := k.(string)
				vs, vok := v.(string)
				if !kok || !vok {
					t.Fatalf("%s reads %#v: %#v in\n%s", name, k, v, data)
				}
				typed[ks] = vs
			}
			if diff := cmp.Diff(want, typed); diff != "" {
				t.Fatalf("%s: %s\n%s", name, diff, data)
			}
		}
		again, err := codec.Encode(want)
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("second encoding differs (%v):\n%s\n%s", err, data, again)
		}
	})
}

// YAML 1.1 reads 12:30 as a number of base 60, as a key too.
func TestEncodedKeysWithColons(t *testing.T) {
	t.Parallel()
	for want, value := range map[string]any{
		"\"12:30\": x\n": map[string]string{"12:30": "x"}, "\"12:30\":\n  a: b\n": map[string]any{"12:30": map[string]string{"a": "b"}}, "a:b: x\n": map[string]string{"a:b": "x"},
	} {
		if data, err := codec.Encode(value); err != nil || string(data) != want {
			t.Errorf("%v, %q, want %q", err, data, want)
		}
	}
}
