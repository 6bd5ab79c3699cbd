package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/s3"
)

// exchange is a request that a frontend holds in its hands.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
	// n counts the frontend's requests from 1.
	n int64
}

// pass lets the real server carry the request out.
func (x exchange) pass() (*http.Response, error) {
	request, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, server.Endpoint+x.r.URL.RequestURI(), x.r.Body)
	if err != nil {
		return nil, err
	}
	request.Header, request.Host, request.ContentLength = x.r.Header.Clone(), x.r.Host, x.r.ContentLength
	return http.DefaultTransport.RoundTrip(request)
}

// answer passes the server's answer on.
func (x exchange) answer() {
	response, err := x.pass()
	if err != nil {
		http.Error(x.w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = response.Body.Close() }() // only read
	maps.Copy(x.w.Header(), response.Header)
	x.w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(x.w, response.Body) // the client may be gone
}

// lose lets the server carry the request out and loses its answer.
func (x exchange) lose() {
	if response, err := x.pass(); err == nil {
		_ = response.Body.Close()
	}
	panic(http.ErrAbortHandler)
}

// refuse answers as S3 does.
func (x exchange) refuse(status int, code string) {
	x.w.Header().Set("Content-Type", "application/xml")
	x.w.WriteHeader(status)
	_, _ = io.WriteString(x.w, "<?xml version=\"1.0\"?><Error><Code>"+code+"</Code><Message>on purpose</Message></Error>")
}

// frontend stands before the real server and returns its URL.
func frontend(t *testing.T, handle func(x exchange)) string {
	t.Helper()
	var n atomic.Int64
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(exchange{w, r, n.Add(1)})
	}))
	t.Cleanup(f.Close)
	return f.URL
}

// behind returns a store in the bucket behind a frontend.
func behind(t *testing.T, bucket string, handle func(x exchange)) *s3.Store {
	t.Helper()
	return open(t, strings.Replace(server.URL(bucket, ""), server.Endpoint, frontend(t, handle), 1))
}

// fill puts the object a.
func fill(t *testing.T, s store.Store, body string) {
	t.Helper()
	if _, err := s.Put(t.Context(), "a", strings.NewReader(body), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestAnswersAreClassified(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		code   string
		get    error
		put    error
	}{
		"a conditional request in the way": {409, "ConditionalRequestConflict", store.ErrConflict, store.ErrConflict},
		"a precondition that failed":       {412, "PreconditionFailed", store.ErrConflict, store.ErrConflict},
		"a missing key, for who may list":  {404, "NoSuchKey", store.ErrNotFound, store.ErrNotFound},
		"a missing key, for who may not":   {403, "AccessDenied", store.ErrAccessDenied, store.ErrAccessDenied},
		"a key that is not known":          {403, "InvalidAccessKeyId", store.ErrUnauthorized, store.ErrUnauthorized},
		"a bad signature":                  {403, "SignatureDoesNotMatch", store.ErrUnauthorized, store.ErrUnauthorized},
		"an expired session":               {400, "ExpiredToken", store.ErrUnauthorized, store.ErrUnauthorized},
		"no session at all":                {401, "Unauthorized", store.ErrUnauthorized, store.ErrUnauthorized},
		"a missing bucket":                 {404, "NoSuchBucket", store.ErrBucketNotFound, store.ErrBucketNotFound},
		"a look-alike's own code":          {412, "Whatever", store.ErrConflict, store.ErrConflict},
		"a server that is overloaded":      {503, "SlowDown", nil, nil},
		"too many requests":                {429, "TooManyRequests", nil, nil},
		"an internal error":                {500, "InternalError", nil, nil},
		"a redirect without a place":       {301, "PermanentRedirect", nil, nil},
		"no S3 at all":                     {418, "Teapot", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := behind(t, "none", func(x exchange) { x.refuse(c.status, c.code) })
			_, err := s.Get(t.Context(), "a", store.GetOptions{})
			wantClass(t, "get", err, c.get)
			_, err = s.Put(t.Context(), "a", strings.NewReader("x"), store.PutOptions{})
			wantClass(t, "put", err, c.put)
		})
	}
}

// wantClass wants an error of that class, or of none of the store's.
func wantClass(t *testing.T, what string, err, want error) {
	t.Helper()
	classes := []error{store.ErrNotFound, store.ErrNotModified, store.ErrConflict, store.ErrAccessDenied, store.ErrUnauthorized, store.ErrBucketNotFound, store.ErrInvalidKey, store.ErrInvalidRange}
	if err == nil {
		t.Errorf("%s: no error", what)
	}
	for _, class := range classes {
		if errors.Is(err, class) != errors.Is(want, class) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}

// What passes by itself is tried again by the one layer that does so.
func TestPassingFaultsAreNotSeen(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(x exchange){
		"503 with Retry-After": func(x exchange) {
			x.w.Header().Set("Retry-After", "1")
			x.refuse(http.StatusServiceUnavailable, "SlowDown")
		},
		"429":                 func(x exchange) { x.refuse(http.StatusTooManyRequests, "TooManyRequests") },
		"500":                 func(x exchange) { x.refuse(http.StatusInternalServerError, "InternalError") },
		"502 without a body":  func(x exchange) { x.w.WriteHeader(http.StatusBadGateway) },
		"a broken connection": func(exchange) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bucket(t)
			s := behind(t, b, func(x exchange) {
				if x.n%3 != 0 { // two of three
					fault(x)
					return
				}
				x.answer()
			})
			if _, err := s.Put(t.Context(), "a", strings.NewReader("x"), store.PutOptions{}); err != nil {
				t.Error(err)
			}
			if data, _, err := store.ReadAll(t.Context(), s, "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
				t.Errorf("%q %v", data, err)
			}
		})
	}
}

// The SDK tries a write again whose answer it did not see, and then meets its
// own success: a conflict that whoever reads back finds to be none.
func TestLostReplyOfAConditionalPut(t *testing.T) {
	t.Parallel()
	b := bucket(t)
	s := behind(t, b, func(x exchange) {
		if x.r.Method == http.MethodPut && x.n%2 == 1 {
			x.lose()
		}
		x.answer()
	})
	_, err := s.Put(t.Context(), "a", strings.NewReader("x"), store.PutOptions{IfAbsent: true})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("error %v", err)
	}
	for i, want := range []string{"one", "two"} {
		calls := 0
		err := document.Update(t.Context(), s, "b", func([]byte) ([]byte, error) {
			calls++
			return []byte(want), nil
		})
		if got, _, readErr := store.ReadAll(t.Context(), s, "b", 10, store.GetOptions{}); err != nil || readErr != nil || string(got) != want || calls != 1 {
			t.Errorf("update %d: %q %v %v after %d calls", i, got, err, readErr, calls)
		}
	}
}

// What signs a request is for one host alone, and so is the session token.
func TestRedirects(t *testing.T) {
	t.Parallel()
	b := bucket(t)
	var leaked atomic.Int64
	thief := frontend(t, func(x exchange) { leaked.Add(1); x.refuse(http.StatusForbidden, "AccessDenied") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := behind(t, b, func(x exchange) { http.Redirect(x.w, x.r, thief+x.r.URL.Path, status) })
		if _, err := s.Get(t.Context(), "a", store.GetOptions{}); err == nil || errors.Is(err, store.ErrAccessDenied) {
			t.Errorf("%d: error %v", status, err)
		}
	}
	if leaked.Load() != 0 {
		t.Errorf("%d requests were sent to another host", leaked.Load())
	}
	fill(t, open(t, server.URL(b, "")), "x")
	s := behind(t, b, func(x exchange) { // the same host, once
		signed, again := strings.CutSuffix(x.r.URL.RawQuery, "&again")
		if !again {
			http.Redirect(x.w, x.r, x.r.URL.RequestURI()+"&again", http.StatusTemporaryRedirect)
			return
		}
		x.r.URL.RawQuery = signed
		x.answer()
	})
	if data, _, err := store.ReadAll(t.Context(), s, "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
		t.Errorf("a redirect within the host: %q %v", data, err)
	}
	far := behind(t, b, func(x exchange) {
		x.w.Header().Set("X-Amz-Bucket-Region", "eu-south-2")
		x.refuse(http.StatusMovedPermanently, "PermanentRedirect")
	})
	if _, err := far.Get(t.Context(), "a", store.GetOptions{}); err == nil || !strings.Contains(err.Error(), `?region="eu-south-2"`) {
		t.Errorf("error %v", err)
	}
}

// A clock that is wrong is corrected by what the server says of the time.
func TestWrongClockIsCorrected(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{time.Hour, -time.Hour, 400 * 24 * time.Hour} {
		s := behind(t, "skewed", func(x exchange) {
			now := time.Now().Add(ahead)
			x.w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			signed, err := time.Parse("20060102T150405Z", x.r.Header.Get("X-Amz-Date"))
			if err != nil || signed.Sub(now).Abs() > 15*time.Minute {
				x.refuse(http.StatusForbidden, "RequestTimeTooSkewed")
				return
			}
			x.w.Header().Set("ETag", `"x"`)
			_, _ = io.WriteString(x.w, "x")
		})
		for range 2 {
			if data, _, err := store.ReadAll(t.Context(), s, "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
				t.Errorf("the server is %s ahead: %q %v", ahead, data, err)
			}
		}
		if skew, known := s.Skew(); !known || (skew-ahead).Abs() > 10*time.Second {
			t.Errorf("skew is %s, %v, want %s", skew, known, ahead)
		}
	}
}

// Bodies break off before, in and behind every part that matters, also where
// the server goes on to answer ranges in pieces.
func TestBodyThatBreaksOffOnTheWireIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	b := bucket(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	fill(t, open(t, server.URL(b, "")), string(want))
	for _, after := range []int64{1, 511, 512, 4096, 32<<10 - 1, 32 << 10, 100_000, 400_000, 1<<20 - 1} {
		var cuts atomic.Int64
		s := behind(t, b, func(x exchange) {
			response, err := x.pass()
			if err != nil {
				http.Error(x.w, err.Error(), http.StatusBadGateway)
				return
			}
			defer func() { _ = response.Body.Close() }() // only read
			maps.Copy(x.w.Header(), response.Header)
			x.w.WriteHeader(response.StatusCode)
			n, _ := io.CopyN(x.w, response.Body, after)
			if n == after && response.ContentLength > after {
				cuts.Add(1)
				_ = http.NewResponseController(x.w).Flush() // the client may be gone
				panic(http.ErrAbortHandler)                 // closes the connection in the middle
			}
		})
		length := min(20*after, int64(len(want)))
		obj, err := store.Open(t.Context(), s, "a", store.GetOptions{Length: length})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(obj.Body)
		if err != nil || !bytes.Equal(got, want[:length]) || cuts.Load() == 0 {
			t.Errorf("cutting after %d bytes: %d bytes of %d, %v, %d cuts", after, len(got), length, err, cuts.Load())
		}
		_ = obj.Body.Close() // it was read
	}
}

func TestNamesAndCertificatesThatAreWrong(t *testing.T) {
	t.Parallel()
	tls := encrypted(t, http.NotFoundHandler())
	for endpoint, want := range map[string]string{
		"http://store.invalid":     "store.invalid",
		tls.URL:                    "certificate",
		"http://127.0.0.1:1":       "connection refused",
		"https://" + server.Host(): "HTTP response to HTTPS client",
	} {
		s := open(t, "s3://b?region=r&pathStyle=true&endpoint="+endpoint)
		_, err := s.Get(t.Context(), "a", store.GetOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrAccessDenied) {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// A request ends with its context, whatever the server does.
func TestServerThatHangsEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s := behind(t, "none", func(x exchange) { <-x.r.Context().Done() })
	why := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	if _, err := s.Get(ctx, "a", store.GetOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
