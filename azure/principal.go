package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/opencmg/opencmg"
)

// PrincipalID returns the object ID of the service principal that the client
// signs in as. It stands in the client's own token (claim oid), so that an app
// without any right in the directory can be asked, too.
func (c *Client) PrincipalID(ctx context.Context) (string, error) {
	token, err := c.accessToken(ctx, c.env.armScope())
	if err != nil {
		return "", err
	}
	var claims struct {
		ObjectID string `json:"oid"`
	}
	parts := strings.Split(token, ".")
	if len(parts) == 3 {
		// Entra's own answer to us over TLS; nothing is decided by the claim
		// but which principal the vault lets in.
		if b, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			json.Unmarshal(b, &claims)
		}
	}
	if !opencmg.IsGUID(claims.ObjectID) {
		return "", opencmg.Errorf(opencmg.Unavailable, "the access token of app %s does not name its service principal (oid)", c.how.ClientID)
	}
	return strings.ToLower(claims.ObjectID), nil
}
