// Tries OpenCMG/Types.cs: "body" prints what the JSON writer makes of one of
// everything; "get URL CA" asks an HTTPS server as the module does; "judge CA
// CERTIFICATE ERRORS" judges one as if the handshake had met the errors; "serve
// PFX" is the server of the module's own tests, until a line comes.

using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Management.Automation;
using System.Net.Http;
using System.Net.Security;
using System.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;

static class Try
{
    enum Store { RootCA, IntermediateCA }

    static int Main(string[] args)
    {
        switch (args[0])
        {
            case "body":
                return WriteBody();
            case "get":
                return Get(args[1], args[2]);
            case "serve":
                return Serve(args[1]);
            default:
                return Judge(args[1], args[2], args[3]);
        }
    }

    static int WriteBody()
    {
        PSObject custom = new PSObject();
        custom.Properties.Add(new PSPropertyInfo { Name = "Name", Value = "Fr\u00e4nk \"\\\u20ac\n" });
        custom.Properties.Add(new PSPropertyInfo { Name = "List", Value = new object[] { 1, 2.5, null } });
        Dictionary<string, object> all = new Dictionary<string, object>();
        all["text"] = new PSObject("a");
        all["secret"] = new OpenCMG.SecretAttribute().Transform(null, new PSObject("p\u00e4ss"));
        all["same"] = ReferenceEquals(all["secret"], new OpenCMG.SecretAttribute().Transform(null, all["secret"]));
        all["isSecure"] = all["secret"] is SecureString;
        all["switch"] = new SwitchParameter(true);
        all["utc"] = new DateTime(2027, 3, 31, 1, 2, 3, DateTimeKind.Utc);
        all["unspecified"] = new DateTime(2027, 3, 31);
        all["uri"] = new Uri("https://ConfigMgrService");
        all["bytes"] = Encoding.ASCII.GetBytes("file");
        Hashtable table = new Hashtable();
        table["c:\\ca.cer"] = Store.RootCA;
        all["table"] = table;
        all["object"] = custom;
        all["long"] = new string('x', 10000);
        OpenCMG.Body body = new OpenCMG.Body();
        body.Write(all);
        byte[] buffer = body.Buffer;
        Console.WriteLine(Encoding.ASCII.GetString(buffer, 0, body.Length));
        body.Dispose();
        foreach (byte b in buffer)
        {
            if (b != 0)
            {
                Console.WriteLine("the body was not cleared");
                return 1;
            }
        }
        return 0;
    }

    static int Serve(string pfx)
    {
        using (OpenCMG.Tests.Server server = new OpenCMG.Tests.Server(File.ReadAllBytes(pfx)))
        {
            server.Answer(418, "text/plain", "hello");
            Console.WriteLine(server.Port);
            Console.ReadLine();
            foreach (string request in server.Requests)
            {
                Console.WriteLine(request);
            }
        }
        return 0;
    }

    static int Judge(string ca, string certificate, string errors)
    {
        OpenCMG.Pin pin = new OpenCMG.Pin(ca);
        bool trusted = pin.Callback(null, new X509Certificate2(certificate), null, (SslPolicyErrors)Enum.Parse(typeof(SslPolicyErrors), errors));
        Console.WriteLine(trusted ? "trusted" : "refused: " + pin.Refusal);
        return trusted ? 0 : 1;
    }

    static int Get(string url, string ca)
    {
        OpenCMG.Pin pin = new OpenCMG.Pin(ca);
        HttpClientHandler handler = new HttpClientHandler();
        handler.ServerCertificateCustomValidationCallback = pin.Callback;
        try
        {
            Console.WriteLine(new HttpClient(handler).GetStringAsync(url).GetAwaiter().GetResult());
            return 0;
        }
        catch (Exception e)
        {
            Console.WriteLine("refused: " + pin.Refusal + " (" + e.GetBaseException().Message + ")");
            return 1;
        }
    }
}
