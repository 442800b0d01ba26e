package connpoint

import (
	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/http1"
	"github.com/opencmg/opencmg/tunnel"
)

// InternalRequest builds the head that the mapping's first host would get.
func InternalRequest(m opencmg.URLMapping, req *tunnel.Request) (string, error) {
	r, err := newRole(&Config{}, &pool{}, m)
	if err != nil {
		return "", err
	}
	var head http1.RequestHead
	if err := head.Parse(req.Head); err != nil {
		return "", err
	}
	b, err := appendRequest(nil, r.hosts[0], &head, req)
	return string(b), err
}

// PublicResponse builds the head that goes back to the gateway.
func PublicResponse(head, method string) (string, error) {
	var res http1.ResponseHead
	if err := res.Parse([]byte(head), []byte(method)); err != nil {
		return "", err
	}
	return string(appendResponse(nil, &res)), nil
}

// FrameChunk frames body as the upload does.
func FrameChunk(body string) string {
	b := make([]byte, len(body)+64)
	copy(b[16:], body)
	return string(frameChunk(b, 16, len(body)))
}

// CollectApart is the least time between two questions to an instance.
const CollectApart = collectApart
