package s3_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// cutting is a proxy that breaks each body off after some bytes, as a lost
// connection does: the headers promised more.
func cutting(t *testing.T, after int64, cuts *atomic.Int64) string {
	t.Helper()
	frontend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequestWithContext(r.Context(), r.Method, server.Endpoint+r.URL.RequestURI(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		request.Header, request.Host, request.ContentLength = r.Header.Clone(), r.Host, r.ContentLength
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = response.Body.Close() }() // only read
		maps.Copy(w.Header(), response.Header)
		w.WriteHeader(response.StatusCode)
		n, _ := io.CopyN(w, response.Body, after)
		if n == after && response.ContentLength > after {
			cuts.Add(1)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler) // closes the connection in the middle
		}
	}))
	t.Cleanup(frontend.Close)
	return frontend.URL
}

func TestBodyThatBreaksOffOnTheWireIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	b := bucket(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	direct := open(t, server.URL(b, ""))
	if _, err := direct.Put(t.Context(), "a", bytes.NewReader(want), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int64{1, 100_000, 400_000, 1<<20 - 1} {
		var cuts atomic.Int64
		s := open(t, strings.Replace(server.URL(b, ""), server.Endpoint, cutting(t, after, &cuts), 1))
		if after == 1 { // a byte at a time is for nobody to wait for
			obj, err := store.Open(t.Context(), s, "a", store.GetOptions{Length: 20})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(obj.Body)
			if err != nil || string(got) != "0123456789abcdef0123" || cuts.Load() != 19 {
				t.Errorf("%q %v after %d cuts", got, err, cuts.Load())
			}
			continue
		}
		got, _, err := store.ReadAll(t.Context(), s, "a", 2<<20, store.GetOptions{})
		if err != nil || !bytes.Equal(got, want) || cuts.Load() == 0 {
			t.Errorf("cutting after %d bytes: %d bytes, %v, %d cuts", after, len(got), err, cuts.Load())
		}
	}
}
