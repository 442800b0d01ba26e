package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/site"
)

// clouds makes the site's clients of clouds, all on one way to the outside.
type clouds struct {
	http *http.Client
	log  *slog.Logger
	poll time.Duration
}

func (c *clouds) client(in site.CloudSignIn) (*azure.Client, error) {
	cred := azure.Credential{ClientID: in.ClientID, Secret: azure.Secret(in.Secret), CertificatePEM: in.CertificatePEM, ManagedIdentity: in.ManagedIdentity}
	if file := in.FederatedFile; file != "" {
		cred.FederatedToken = func(context.Context) (string, error) {
			b, err := os.ReadFile(file)
			return strings.TrimSpace(string(b)), err
		}
	}
	if say := in.DeviceCode; say != nil {
		cred.DeviceCode = func(_ context.Context, _, _, message string) error {
			say(message)
			return nil
		}
	}
	return azure.New(azure.Config{
		Environment: in.Environment, TenantID: in.TenantID, SubscriptionID: in.SubscriptionID, Credential: cred,
		HTTP: c.http, Log: c.log.With("component", "CloudMgr"), PollFrequency: c.poll,
	})
}

func (c *clouds) cloud(in site.CloudSignIn) (site.Cloud, error) { return c.client(in) }

func (c *clouds) directory(in site.CloudSignIn) (site.Directory, error) { return c.client(in) }
