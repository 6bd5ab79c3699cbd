package s3

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// A body that stops coming does not hold the reader for ever.
func TestStalledBodyIsGivenUpAndTakenUpAgain(t *testing.T) { //nolint:paralleltest // sets the environment
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		w.Header().Set("ETag", `"x"`)
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "56789")
			return
		}
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "01234")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done() // until the client gives up
	}))
	defer server.Close()
	s, err := New(t.Context(), store.Location{Bucket: "b", Endpoint: server.URL, PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	s.stall = 200 * time.Millisecond
	data, _, err := store.ReadAll(t.Context(), s, "a", 100, store.GetOptions{})
	if err != nil || string(data) != "0123456789" || requests != 2 {
		t.Errorf("%q %v after %d requests", data, err, requests)
	}
	obj, err := s.Get(t.Context(), "a", store.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(obj.Body); !errors.Is(err, errStalled) {
		t.Errorf("error %v", err)
	}
	if err := obj.Body.Close(); err != nil {
		t.Error(err)
	}
}

// A server that ignores ranges must not have its answer taken for the rest.
func TestRangeThatIsNotHonouredIsRefused(t *testing.T) { //nolint:paralleltest // sets the environment
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer server.Close()
	s, err := New(t.Context(), store.Location{Bucket: "b", Endpoint: server.URL, PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "a", store.GetOptions{Offset: 5}); err == nil {
		t.Error("accepted")
	}
}
