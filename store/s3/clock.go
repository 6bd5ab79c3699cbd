package s3

import (
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// clock learns the server's time from its answers' Date, which has whole
// seconds: the SDK tells that only of some of them, and not of a 304.
type clock struct {
	s3.HTTPClient

	mu    sync.Mutex
	skew  time.Duration
	known bool
}

// Do makes a request, and compares the clocks in the middle of it.
func (c *clock) Do(request *http.Request) (*http.Response, error) {
	before := time.Now() //nolint:forbidigo // the machine's own clock is the point
	response, err := c.HTTPClient.Do(request)
	if err != nil {
		return response, err //nolint:wrapcheck // the client's own
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		after := time.Now() //nolint:forbidigo // as above
		middle := before.Add(after.Sub(before) / 2)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.skew, c.known = date.Add(time.Second/2).Sub(middle.Round(0)), true
	}
	return response, nil
}

// Skew is that of the newest answer.
func (s *Store) Skew() (skew time.Duration, known bool) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.skew, s.clock.known
}
