// A site for the tests: an HTTPS server on loopback that answers each request with
// the next answer that it was given. C# 5, as Types.cs.

using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading;

namespace OpenCMG.Tests
{
    public sealed class Server : IDisposable
    {
        readonly TcpListener listener = new TcpListener(IPAddress.Loopback, 0);
        readonly X509Certificate2 certificate;
        readonly object gate = new object();
        readonly Queue<string> answers = new Queue<string>();
        readonly List<string> requests = new List<string>();

        /// <summary>Listens on a free port; the PFX has no password.</summary>
        public Server(byte[] pfx)
        {
            certificate = new X509Certificate2(pfx, "");
            listener.Start();
            Thread loop = new Thread(Serve);
            loop.IsBackground = true;
            loop.Start();
        }

        public int Port
        {
            get { return ((IPEndPoint)listener.LocalEndpoint).Port; }
        }

        /// <summary>What was asked: the head of each request, an empty line, its body.</summary>
        public string[] Requests
        {
            get { lock (gate) { return requests.ToArray(); } }
        }

        /// <summary>Adds an answer; one that is missing is a 500.</summary>
        public void Answer(int status, string type, string body)
        {
            lock (gate)
            {
                answers.Enqueue("HTTP/1.1 " + status + " Status\r\nContent-Type: " + type + "\r\nContent-Length: "
                    + Encoding.UTF8.GetByteCount(body) + "\r\nConnection: close\r\n\r\n" + body);
            }
        }

        /// <summary>Forgets what was asked, and answers that nobody asked for.</summary>
        public void Clear()
        {
            lock (gate)
            {
                requests.Clear();
                answers.Clear();
            }
        }

        public void Dispose()
        {
            listener.Stop();
        }

        void Serve()
        {
            while (true)
            {
                TcpClient client;
                try
                {
                    client = listener.AcceptTcpClient();
                }
                catch (SocketException)
                {
                    return; // Dispose
                }
                catch (ObjectDisposedException)
                {
                    return;
                }
                try
                {
                    using (client)
                    using (SslStream stream = new SslStream(client.GetStream()))
                    {
                        stream.AuthenticateAsServer(certificate, false, SslProtocols.Tls12, false);
                        One(stream);
                    }
                }
                catch (IOException)
                {
                    // The client went away, as it does when it does not trust us.
                }
                catch (AuthenticationException)
                {
                }
            }
        }

        void One(Stream stream)
        {
            string head = "";
            while (!head.EndsWith("\r\n\r\n"))
            {
                int b = stream.ReadByte();
                if (b < 0)
                {
                    return;
                }
                head += (char)b;
            }
            int length = 0;
            foreach (string line in head.Split('\n'))
            {
                if (line.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase))
                {
                    length = int.Parse(line.Substring(15).Trim());
                }
            }
            byte[] body = new byte[length];
            for (int n = 0; n < length;)
            {
                int got = stream.Read(body, n, length - n);
                if (got == 0)
                {
                    return;
                }
                n += got;
            }
            string answer;
            lock (gate)
            {
                requests.Add(head + Encoding.UTF8.GetString(body));
                answer = answers.Count > 0 ? answers.Dequeue() : "HTTP/1.1 500 Status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            }
            byte[] bytes = Encoding.UTF8.GetBytes(answer);
            stream.Write(bytes, 0, bytes.Length);
            stream.Flush();
        }
    }
}
