package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/internal/cloudinit"
	"github.com/opencmg/opencmg/sitedb"
)

// storageRecord is what the site knows of a gateway's storage account.
type storageRecord struct {
	KeysRotated time.Time `json:"keysRotated,omitzero"`
	KeysNext    time.Time `json:"keysNext,omitzero"` // when a key is due
	// The program that the machines were told to run, which after an update of
	// the site is another than the site's own, and until when they can fetch
	// it.
	Program     string    `json:"program,omitempty"`
	ProgramSize int64     `json:"programSize,omitempty"`
	ProgramSHA  string    `json:"programSha256,omitempty"`
	LinkExpires time.Time `json:"linkExpires,omitzero"`
}

// service uploads the site's own program and tells the machines where it is.
func (g *gatewayRun) service(ctx context.Context) error {
	p := g.s.cfg.Program
	if p == nil {
		return opencmg.Errorf(opencmg.Conflict, "the site has no gateway program for machines in the cloud: name one as program in its configuration")
	}
	st := storageRecord{Program: p.Name, ProgramSize: p.Size, ProgramSHA: p.SHA256}
	expires, err := g.s.linkProgram(ctx, g.cloud, g.d, st)
	if err != nil {
		return err
	}
	g.say("service", "the machines may fetch the program until "+expires.UTC().Format(time.RFC3339))
	return g.save(ctx, func(v *gatewayRecord) {
		v.Storage.Program, v.Storage.ProgramSize, v.Storage.ProgramSHA, v.Storage.LinkExpires = st.Program, st.ProgramSize, st.ProgramSHA, expires.UTC()
	})
}

// linkProgram puts a fresh address of the program into the gateway's vault, and
// the program into its storage account when it is not there.
func (s *Server) linkProgram(ctx context.Context, cloud Cloud, d *opencmg.Deployment, st storageRecord) (expires time.Time, err error) {
	// The content of an older program is gone; then it must be there.
	var content io.ReadSeeker = strings.NewReader("")
	if p := s.cfg.Program; p != nil && p.SHA256 == st.ProgramSHA {
		f, err := p.Open()
		if err != nil {
			return expires, fmt.Errorf("open the gateway program: %w", err)
		}
		defer f.Close()
		content = f
	}
	url, expires, err := cloud.UploadService(ctx, d, st.Program, content, st.ProgramSize, st.ProgramSHA)
	if err != nil {
		return expires, err
	}
	_, err = cloud.SetSecret(ctx, d, cloudinit.SecretServiceURL, url, contentText)
	return expires, err
}

// longestLink is how long a signature by a storage key lasts: none is longer
// than that of the program.
const longestLink = azure.ServiceLinkLife

// tendStorage replaces storage keys after 180 days (cmg-behaviour M5) and
// renews the address of the program at half its life, so that a machine which
// the cloud makes anew can always fetch it.
func (s *Server) tendStorage(ctx context.Context) error {
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range gateways {
		v := &rec.Value
		if v.Model != adminservice.ModelScaleSet || v.State != adminservice.StateReady && v.State != adminservice.StateStopped {
			continue
		}
		if err := s.tendAccount(ctx, rec); err != nil {
			failed = append(failed, fmt.Errorf("gateway %s: %w", rec.Name, err))
		}
	}
	return errors.Join(failed...)
}

func (s *Server) tendAccount(ctx context.Context, rec *record[gatewayRecord]) error {
	now, st := s.cfg.Now().UTC(), rec.Value.Storage
	keysDue := !now.Before(st.KeysNext)
	linkDue := st.Program != "" && !now.Before(st.LinkExpires.Add(-longestLink/2))
	if !keysDue && !linkDue {
		return nil
	}
	cloud, err := s.cloudOf(ctx, &rec.Value)
	if err != nil {
		return err
	}
	d := rec.Value.deployment()
	var rotation azure.Rotation
	if keysDue {
		if rotation, err = cloud.RotateStorageKeys(ctx, d, longestLink); err != nil {
			return err
		}
		if rotation.Replaced != "" {
			err := s.keepStorage(ctx, rec, func(st *storageRecord) { st.KeysRotated, st.KeysNext = now, rotation.Next }, sitedb.StatusMessage{
				Component: componentManager, Severity: sitedb.SeverityInfo, MessageID: msgKeyReplaced, SubjectKind: kindGateway, SubjectID: rec.ID,
				Text: fmt.Sprintf("replaced %s of the storage account of gateway %s; the next one is due at %s", rotation.Replaced, rec.Value.ServiceName, rotation.Next.UTC().Format(time.DateOnly)),
			})
			if err != nil {
				return err
			}
		} else if err := s.keepStorage(ctx, rec, func(st *storageRecord) { st.KeysNext = rotation.Next }); err != nil {
			return err
		}
	}
	// The new key signs from now on, so that the other one is idle when its turn
	// comes.
	if st.Program != "" && (linkDue || rotation.Replaced != "") {
		expires, err := s.linkProgram(ctx, cloud, d, st)
		if err != nil {
			return err
		}
		return s.keepStorage(ctx, rec, func(st *storageRecord) { st.LinkExpires = expires.UTC() })
	}
	return nil
}

// keepStorage records what was done, with a status message if there is one.
func (s *Server) keepStorage(ctx context.Context, rec *record[gatewayRecord], change func(*storageRecord), messages ...sitedb.StatusMessage) error {
	_, err := update(ctx, s.db, kindGateway, rec.ID, func(tx *sitedb.Tx, r *record[gatewayRecord]) error {
		change(&r.Value.Storage)
		for _, m := range messages {
			if err := tx.AddStatusMessage(m); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
